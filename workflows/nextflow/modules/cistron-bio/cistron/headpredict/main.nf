process CISTRON_HEADPREDICT {
    tag "$meta.id"
    label 'process_medium'
    label 'process_gpu'

    conda "${moduleDir}/environment.yml"
    container "${ workflow.containerEngine in ['singularity', 'apptainer'] && !task.ext.singularity_pull_docker_container ?
        'https://depot.galaxyproject.org/singularity/cistron:0.1.0--0' :
        'quay.io/biocontainers/cistron:0.1.0--0' }"

    input:
    tuple val(meta), path(head), path(table, stageAs: "table/*")

    output:
    tuple val(meta), path("*.tsv"), emit: tsv
    tuple val("${task.process}"), val('cistron'), eval("cistron --version | sed 's/cistron //'"), topic: versions, emit: versions_cistron

    when:
    task.ext.when == null || task.ext.when

    script:
    // args: at least the column, such as --mutant-column mutant.
    def args = task.ext.args ?: ''
    def prefix = task.ext.prefix ?: "${meta.id}"
    def device = task.accelerator ? 'auto' : 'cpu'
    """
    cistron head predict \\
        --force \\
        --device ${device} \\
        --threads ${task.cpus} \\
        --head ${head} \\
        --table ${table} \\
        ${args} \\
        --output ${prefix}.tsv
    """

    stub:
    def prefix = task.ext.prefix ?: "${meta.id}"
    """
    touch ${prefix}.tsv
    """
}
