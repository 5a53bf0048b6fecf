process CISTRON_CORPUSBUILD {
    tag "$meta.id"
    label 'process_low'

    conda "${moduleDir}/environment.yml"
    container "${ workflow.containerEngine in ['singularity', 'apptainer'] && !task.ext.singularity_pull_docker_container ?
        'https://depot.galaxyproject.org/singularity/cistron:0.1.0--0' :
        'quay.io/biocontainers/cistron:0.1.0--0' }"

    input:
    tuple val(meta), path(fasta, stageAs: "genomes/*")
    val validation

    output:
    tuple val(meta), path("${prefix}"), emit: corpus
    tuple val("${task.process}"), val('cistron'), eval("cistron --version | sed 's/cistron //'"), topic: versions, emit: versions_cistron

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    def val_opt = validation ? "--val ${validation.join(',')}" : ''
    """
    cistron corpus build \\
        --force \\
        --threads ${task.cpus} \\
        ${val_opt} \\
        ${args} \\
        --out ${prefix} \\
        ${fasta}
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    mkdir -p ${prefix}
    touch ${prefix}/manifest.json
    """
}
