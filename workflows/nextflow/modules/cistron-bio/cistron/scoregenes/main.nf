process CISTRON_SCOREGENES {
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

    output:
    tuple val(meta), path("*.tsv"), emit: tsv
    tuple val("${task.process}"), val('cistron'), eval("cistron --version | sed 's/cistron //'"), topic: versions, emit: versions_cistron

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    def prefix = task.ext.prefix ?: "${meta.id}"
    def model_opt = "--model ${model ?: meta2.id ?: 'nano'}"
    def device = task.accelerator ? 'auto' : 'cpu'
    """
    cistron score genes \\
        --force \\
        --device ${device} \\
        --threads ${task.cpus} \\
        --fasta ${fasta} \\
        --gff ${gff} \\
        ${model_opt} \\
        ${args} \\
        --output ${prefix}.tsv
    """

    stub:
    def prefix = task.ext.prefix ?: "${meta.id}"
    """
    touch ${prefix}.tsv
    """
}
