// Every step, on the rows of two tables.

include { CISTRON_CORPUSBUILD                  } from '../modules/cistron-bio/cistron/corpusbuild/main'
include { CISTRON_EVALLM                       } from '../modules/cistron-bio/cistron/evallm/main'
include { CISTRON_GATHER as CISTRON_GATHER_SATURATE } from '../modules/cistron-bio/cistron/gather/main'
include { CISTRON_GATHER as CISTRON_GATHER_VCF } from '../modules/cistron-bio/cistron/gather/main'
include { CISTRON_HEADPREDICT                  } from '../modules/cistron-bio/cistron/headpredict/main'
include { CISTRON_HEADTRAIN                    } from '../modules/cistron-bio/cistron/headtrain/main'
include { CISTRON_PRETRAIN                     } from '../modules/cistron-bio/cistron/pretrain/main'
include { CISTRON_SATURATE                     } from '../modules/cistron-bio/cistron/saturate/main'
include { CISTRON_SCOREDMS                     } from '../modules/cistron-bio/cistron/scoredms/main'
include { CISTRON_SCOREGENES                   } from '../modules/cistron-bio/cistron/scoregenes/main'
include { CISTRON_SCOREVCF                     } from '../modules/cistron-bio/cistron/scorevcf/main'
include { CISTRON_TRACKS                       } from '../modules/cistron-bio/cistron/tracks/main'

// The rows of genomes that a model is trained or validated on.
def corpus_rows(genomes) {
    return genomes.findAll { row -> row.split != 'none' }
}

// Names, as the corpus has them, of the genomes kept for validation.
def validation_names(genomes) {
    return genomes.findAll { row -> row.split == 'val' }.collect { row -> Table.stem(row.fasta) }
}

// [ meta, fasta, gff ]; an absent annotation is an empty list.
def genome_inputs(genomes) {
    return genomes.collect { row -> [[id: row.genome, circular: row.circular], row.fasta, row.gff ?: []] }
}

// A task for each part of each VCF: its variants and its genome.
def vcf_tasks(genomes, samples, count) {
    def by_name = genomes.collectEntries { row -> [row.genome, row] }
    return samples.collectMany { row ->
        def genome = by_name[row.genome]
        (1..count).collect { part ->
            [
                [[id: row.sample, genome: row.genome, circular: genome.circular, part: part], row.vcf, "${part}/${count}"],
                [[id: row.genome], genome.fasta, genome.gff ?: []],
            ]
        }
    }
}

// [ meta, table, cds, protein ] and [ meta, fasta, gff ] of each scan; a gene alone has no genome.
def scan_tasks(genomes, scans) {
    def by_name = genomes.collectEntries { row -> [row.genome, row] }
    return scans.collect { row ->
        def genome = by_name[row.genome] ?: [:]
        [
            [[id: row.scan, circular: genome.circular, options: row.options], row.table, row.cds ?: [], row.protein ?: []],
            [[id: row.genome], genome.fasta ?: [], genome.gff ?: []],
        ]
    }
}

// [ meta, table, wild type, table to predict ] of each head.
def head_inputs(heads) {
    return heads.collect { row ->
        def sequences = [
            row.sequence ? "--sequence-column '${row.sequence}'" : '',
            row.mutant ? "--mutant-column '${row.mutant}'" : '',
        ].join(' ').trim()
        def training = "--target-column '${row.target}' ${row.options ?: ''}".trim()
        [
            [id: row.head, sequences: sequences.toString(), training: training.toString()],
            row.table, row.wild_type ?: [], row.predict ?: [],
        ]
    }
}

// Files in the order of their numbers.
def in_order(numbered) {
    return numbered.sort { item -> item[0] }.collect { item -> item[1] }
}

workflow CISTRON {
    take:
    genomes // rows of the table of genomes
    samples // rows of the table of VCF files
    scans   // rows of the table of deep mutational scans
    heads   // rows of the table of heads

    main:
    def steps = params.steps.tokenize(',')
    ch_genomes = channel.fromList(genome_inputs(genomes))

    // The model and the corpus: one value each, empty lists where there is none.
    if (params.model == 'pretrain') {
        CISTRON_CORPUSBUILD(
            channel.value([[id: 'corpus'], corpus_rows(genomes)*.fasta]),
            channel.value(validation_names(genomes)),
        )
        CISTRON_PRETRAIN(
            CISTRON_CORPUSBUILD.out.corpus,
            channel.value([[id: 'config'], file(params.pretrain_config, checkIfExists: true)]),
        )
        ch_model = CISTRON_PRETRAIN.out.model
        ch_corpus = CISTRON_CORPUSBUILD.out.corpus.map { _meta, corpus -> corpus }
    }
    else {
        ch_model = channel.value([[id: params.model], Table.model(params.model)])
        ch_corpus = channel.value([])
    }

    if ('eval' in steps) {
        CISTRON_EVALLM(ch_genomes, ch_model, ch_corpus)
    }

    if ('score_vcf' in steps) {
        ch_tasks = channel.fromList(vcf_tasks(genomes, samples, params.shards as int))
        CISTRON_SCOREVCF(
            ch_tasks.map { variants, _genome -> variants },
            ch_tasks.map { _variants, genome -> genome },
            ch_model,
        )
        ch_parts = CISTRON_SCOREVCF.out.vcf
            .map { meta, vcf -> [meta.subMap('id', 'genome'), [meta.part, vcf]] }
            .groupTuple(size: params.shards as int)
            .map { meta, numbered -> [meta, in_order(numbered), 'vcf.gz'] }
        CISTRON_GATHER_VCF(ch_parts)
    }

    if ('score_genes' in steps) {
        CISTRON_SCOREGENES(ch_genomes.filter { _meta, _fasta, gff -> gff }, ch_model)
    }

    if ('tracks' in steps) {
        CISTRON_TRACKS(ch_genomes, ch_model)
    }

    if ('score_dms' in steps) {
        ch_scans = channel.fromList(scan_tasks(genomes, scans))
        CISTRON_SCOREDMS(
            ch_scans.map { scan, _genome -> scan },
            ch_scans.map { _scan, genome -> genome },
            ch_model,
        )
    }

    if ('head' in steps) {
        ch_heads = channel.fromList(head_inputs(heads))
        CISTRON_HEADTRAIN(ch_heads.map { meta, table, wild_type, _predict -> [meta, table, wild_type] })
        ch_predict = CISTRON_HEADTRAIN.out.head
            .join(ch_heads.map { meta, _table, _wild_type, predict -> [meta, predict] })
            .filter { _meta, _head, predict -> predict }
        CISTRON_HEADPREDICT(ch_predict)
    }

    if ('saturate' in steps) {
        ch_contigs = ch_genomes.flatMap { meta, fasta, gff ->
            def contigs = Table.contigs(fasta)
            contigs.withIndex().collect { contig, number ->
                [meta + [part: number, parts: contigs.size()], fasta, gff, contig]
            }
        }
        CISTRON_SATURATE(ch_contigs, ch_model)
        ch_tables = CISTRON_SATURATE.out.tsv
            .map { meta, tsv -> [groupKey(meta.subMap('id'), meta.parts), [meta.part, tsv]] }
            .groupTuple()
            .map { meta, numbered -> [meta.target, in_order(numbered), 'tsv.gz'] }
        CISTRON_GATHER_SATURATE(ch_tables)
    }
}
