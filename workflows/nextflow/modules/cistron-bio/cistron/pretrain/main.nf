process CISTRON_PRETRAIN {
    tag "$meta.id"
    label 'process_high'
    label 'process_gpu'

    conda "${moduleDir}/environment.yml"
    container "${ workflow.containerEngine in ['singularity', 'apptainer'] && !task.ext.singularity_pull_docker_container ?
        'https://depot.galaxyproject.org/singularity/cistron:0.1.0--0' :
        'quay.io/biocontainers/cistron:0.1.0--0' }"

    input:
    tuple val(meta), path(corpus)
    tuple val(meta2), path(config)

    output:
    tuple val(meta), path("${prefix}/model"), emit: model
    tuple val(meta), path("${prefix}/metrics.jsonl"), emit: metrics
    tuple val(meta), path("${prefix}/plots"), emit: plots
    tuple val("${task.process}"), val('cistron'), eval("cistron --version | sed 's/cistron //'"), topic: versions, emit: versions_cistron

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    // args2: what starts training on several GPUs, such as torchrun.
    def args2 = task.ext.args2 ?: ''
    def device = task.accelerator ? 'auto' : 'cpu'
    // args3: a folder that outlives the task, so that a retry goes on from the latest checkpoint.
    def args3 = task.ext.args3 ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    ${args3 ? "mkdir -p '${args3}' && ln -sfn '${args3}' '${prefix}'" : ''}
    ${args2} cistron pretrain \\
        --device ${device} \\
        --threads ${task.cpus} \\
        --config ${config} \\
        --corpus ${corpus} \\
        --resume auto \\
        ${args} \\
        --out ${prefix}
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    mkdir -p ${prefix}/model ${prefix}/plots
    touch ${prefix}/model/config.json
    touch ${prefix}/model/model.safetensors
    touch ${prefix}/metrics.jsonl
    touch ${prefix}/plots/loss.svg
    """
}
