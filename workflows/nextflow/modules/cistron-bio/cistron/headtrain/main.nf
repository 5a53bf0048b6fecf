process CISTRON_HEADTRAIN {
    tag "$meta.id"
    label 'process_medium'
    label 'process_gpu'

    conda "${moduleDir}/environment.yml"
    container "${ workflow.containerEngine in ['singularity', 'apptainer'] && !task.ext.singularity_pull_docker_container ?
        'https://depot.galaxyproject.org/singularity/cistron:0.1.0--0' :
        'quay.io/biocontainers/cistron:0.1.0--0' }"

    input:
    tuple val(meta), path(table, stageAs: "table/*"), path(wild_type)

    output:
    tuple val(meta), path("${prefix}"), emit: head
    tuple val(meta), path("${prefix}/metrics.json"), emit: metrics
    tuple val(meta), path("${prefix}/plots"), emit: plots
    tuple val("${task.process}"), val('cistron'), eval("cistron --version | sed 's/cistron //'"), topic: versions, emit: versions_cistron

    when:
    task.ext.when == null || task.ext.when

    script:
    // args: at least the columns, such as --mutant-column mutant --target-column score.
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    def wild_type_opt = wild_type ? "--wild-type ${wild_type}" : ''
    def device = task.accelerator ? 'auto' : 'cpu'
    """
    cistron head train \\
        --force \\
        --device ${device} \\
        --threads ${task.cpus} \\
        --table ${table} \\
        ${wild_type_opt} \\
        ${args} \\
        --out ${prefix}
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    mkdir -p ${prefix}/members ${prefix}/plots
    touch ${prefix}/head.json
    touch ${prefix}/members/0-0.safetensors
    touch ${prefix}/metrics.json
    touch ${prefix}/predictions.tsv
    touch ${prefix}/plots/predicted-measured.svg
    """
}
