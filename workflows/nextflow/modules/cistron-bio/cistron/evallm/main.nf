process CISTRON_EVALLM {
    tag "$meta.id"
    label 'process_medium'
    label 'process_gpu'

    conda "${moduleDir}/environment.yml"
    container "${ workflow.containerEngine in ['singularity', 'apptainer'] && !task.ext.singularity_pull_docker_container ?
        'https://depot.galaxyproject.org/singularity/cistron:0.1.0--0' :
        'quay.io/biocontainers/cistron:0.1.0--0' }"

    input:
    tuple val(meta), path(fasta), path(gff)
    tuple val(meta2), path(model)
    path corpus

    output:
    tuple val(meta), path("*.json"), emit: json
    tuple val(meta), path("*.svg"), emit: plot
    tuple val("${task.process}"), val('cistron'), eval("cistron --version | sed 's/cistron //'"), topic: versions, emit: versions_cistron

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    def prefix = task.ext.prefix ?: "${meta.id}"
    def model_opt = "--model ${model ?: meta2.id ?: 'nano'}"
    def gff_opt = gff ? "--gff ${gff}" : ''
    def device = task.accelerator ? 'auto' : 'cpu'
    def corpus_opt = corpus ? "--corpus ${corpus}" : ''
    """
    cistron eval lm \\
        --force \\
        --device ${device} \\
        --threads ${task.cpus} \\
        ${model_opt} \\
        ${gff_opt} \\
        ${corpus_opt} \\
        --plot ${prefix}.svg \\
        --json \\
        ${args} \\
        ${fasta} \\
        > ${prefix}.json
    """

    stub:
    def prefix = task.ext.prefix ?: "${meta.id}"
    """
    touch ${prefix}.json
    touch ${prefix}.svg
    """
}
