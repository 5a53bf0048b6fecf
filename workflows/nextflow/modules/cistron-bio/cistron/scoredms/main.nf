process CISTRON_SCOREDMS {
    tag "$meta.id"
    label 'process_medium'
    label 'process_gpu'

    conda "${moduleDir}/environment.yml"
    container "${ workflow.containerEngine in ['singularity', 'apptainer'] && !task.ext.singularity_pull_docker_container ?
        'https://depot.galaxyproject.org/singularity/cistron:0.1.0--0' :
        'quay.io/biocontainers/cistron:0.1.0--0' }"

    input:
    tuple val(meta), path(table, stageAs: "table/*"), path(cds), path(protein)
    tuple val(meta2), path(fasta), path(gff)
    tuple val(meta3), path(model)

    output:
    tuple val(meta), path("${prefix}.tsv"), emit: tsv
    tuple val(meta), path("${prefix}.json"), emit: json
    tuple val("${task.process}"), val('cistron'), eval("cistron --version | sed 's/cistron //'"), topic: versions, emit: versions_cistron

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    def model_opt = "--model ${model ?: meta3.id ?: 'nano'}"
    def cds_opt = cds ? "--cds ${cds}" : ''
    def protein_opt = protein ? "--protein ${protein}" : ''
    def fasta_opt = fasta ? "--fasta ${fasta}" : ''
    def gff_opt = gff ? "--gff ${gff}" : ''
    def device = task.accelerator ? 'auto' : 'cpu'
    """
    cistron score dms \\
        --force \\
        --device ${device} \\
        --threads ${task.cpus} \\
        --dms ${table} \\
        ${cds_opt} \\
        ${protein_opt} \\
        ${fasta_opt} \\
        ${gff_opt} \\
        ${model_opt} \\
        --json \\
        ${args} \\
        --output ${prefix}.tsv \\
        > ${prefix}.json
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    touch ${prefix}.tsv
    touch ${prefix}.json
    """
}
