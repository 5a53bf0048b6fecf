#!/usr/bin/env nextflow
// Genomes and VCF files through cistron. See docs/src/workflows.md.

nextflow.preview.topic = true

include { CISTRON } from './workflows/cistron'

// A file of the pipeline itself.
def own(name) {
    return file("${projectDir}/${name}")
}

// The rows of a table that need not be given.
def optional(name, key) {
    return params[name] ? Table.read(file(params[name]), own("assets/schema_${name}.json"), key) : []
}

workflow {
    Parameters.check(params, own('nextflow_schema.json'))
    def genomes = Table.read(file(params.input), own('assets/schema_input.json'), 'genome')
    def samples = optional('variants', 'sample')
    def scans = optional('scans', 'scan')
    def heads = optional('heads', 'head')
    Table.require(samples, 'genome', genomes*.genome, params.variants, params.input)
    Table.require(scans, 'genome', genomes*.genome, params.scans, params.input)

    CISTRON(genomes, samples, scans, heads)

    channel.topic('versions')
        .map { process, tool, version -> "${process.tokenize(':')[-1]}:\n    ${tool}: ${version}\n" }
        .unique()
        .collectFile(name: 'software_versions.yml', storeDir: "${params.outdir}/pipeline_info", sort: true)
}
