process CISTRON_GATHER {
    tag "$meta.id"
    label 'process_single'

    conda "${moduleDir}/environment.yml"
    container "${ workflow.containerEngine in ['singularity', 'apptainer'] && !task.ext.singularity_pull_docker_container ?
        'https://depot.galaxyproject.org/singularity/cistron:0.1.0--0' :
        'quay.io/biocontainers/cistron:0.1.0--0' }"

    input:
    tuple val(meta), path(parts, stageAs: "parts/?/*"), val(suffix)

    output:
    tuple val(meta), path("*.${suffix}"), emit: gathered
    tuple val(meta), path("*.tbi"), emit: tbi, optional: true
    tuple val("${task.process}"), val('cistron'), eval("cistron --version | sed 's/cistron //'"), topic: versions, emit: versions_cistron

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    def prefix = task.ext.prefix ?: "${meta.id}"
    """
    cistron gather \\
        --force \\
        --threads ${task.cpus} \\
        ${args} \\
        --output ${prefix}.${suffix} \\
        ${parts}
    """

    stub:
    def args = task.ext.args ?: ''
    def prefix = task.ext.prefix ?: "${meta.id}"
    def write = suffix.endsWith('.gz') ? 'echo "" | gzip >' : 'touch'
    def index = args.contains('--write-index') ? "touch ${prefix}.${suffix}.tbi" : ''
    """
    ${write} ${prefix}.${suffix}
    ${index}
    """
}
