#!/usr/bin/env nextflow
// Genomes and VCF files through cistron. See docs/src/workflows.md.

nextflow.preview.topic = true

include { CISTRON } from './workflows/cistron'

// A file of the pipeline itself.
def own(name) {
    return file("${projectDir}/${name}")
}

workflow {
    Parameters.check(params, own('nextflow_schema.json'))
    def genomes = Table.read(file(params.input), own('assets/schema_input.json'), 'genome')
    def samples = params.variants
        ? Table.read(file(params.variants), own('assets/schema_variants.json'), 'sample')
        : []
    Table.require(samples, 'genome', genomes*.genome, params.variants, params.input)

    CISTRON(genomes, samples)

    channel.topic('versions')
        .map { process, tool, version -> "${process.tokenize(':')[-1]}:\n    ${tool}: ${version}\n" }
        .unique()
        .collectFile(name: 'software_versions.yml', storeDir: "${params.outdir}/pipeline_info", sort: true)
}
