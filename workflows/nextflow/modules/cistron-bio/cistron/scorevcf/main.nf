process CISTRON_SCOREVCF {
    tag "$meta.id"
    label 'process_medium'
    label 'process_gpu'

    conda "${moduleDir}/environment.yml"
    container "${ workflow.containerEngine in ['singularity', 'apptainer'] && !task.ext.singularity_pull_docker_container ?
        'https://depot.galaxyproject.org/singularity/cistron:0.1.0--0' :
        'quay.io/biocontainers/cistron:0.1.0--0' }"

    input:
    tuple val(meta), path(vcf), val(shard)
    tuple val(meta2), path(fasta), path(gff)
    tuple val(meta3), path(model)

    output:
    tuple val(meta), path("*.vcf.gz"), emit: vcf
    tuple val(meta), path("*.tbi"), emit: tbi, optional: true
    tuple val("${task.process}"), val('cistron'), eval("cistron --version | sed 's/cistron //'"), topic: versions, emit: versions_cistron

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    def prefix = task.ext.prefix ?: "${meta.id}.scored"
    def model_opt = "--model ${model ?: meta3.id ?: 'nano'}"
    def gff_opt = gff ? "--gff ${gff}" : ''
    def shard_opt = shard ? "--shard ${shard}" : ''
    def device = task.accelerator ? 'auto' : 'cpu'
    """
    cistron score vcf \\
        --force \\
        --device ${device} \\
        --threads ${task.cpus} \\
        --fasta ${fasta} \\
        ${model_opt} \\
        ${gff_opt} \\
        ${shard_opt} \\
        ${args} \\
        --output ${prefix}.vcf.gz \\
        ${vcf}
    """

    stub:
    def args = task.ext.args ?: ''
    def prefix = task.ext.prefix ?: "${meta.id}.scored"
    def index = args.contains('--write-index') ? "touch ${prefix}.vcf.gz.tbi" : ''
    """
    echo "" | gzip > ${prefix}.vcf.gz
    ${index}
    """
}
