"""Whole genomes: genes, tracks and every single change."""


rule score_genes:
    input:
        fasta=genome_file("fasta"),
        gff=genome_file("gff"),
        model=model_input,
    output:
        report(
            f"{OUT}/genes/{{genome}}.tsv",
            category="Genes",
            caption="../report/genes.rst",
            labels={"genome": "{genome}"},
        ),
    log:
        f"{OUT}/logs/score_genes/{{genome}}.log",
    benchmark:
        f"{OUT}/benchmarks/score_genes/{{genome}}.tsv"
    conda:
        "../envs/cistron.yaml"
    threads: needs("score_genes", "threads")
    resources:
        mem_mb=needs("score_genes", "mem_mb"),
        runtime=needs("score_genes", "runtime"),
        gpu=needs("score_genes", "gpu"),
    params:
        model=model_option,
        genome=genome_options,
        device=device("score_genes"),
        extra=extra("score_genes"),
    shell:
        "cistron score genes --force --device {params.device} --threads {threads} "
        "--fasta {input.fasta:q} --model {params.model} {params.genome} {params.extra} "
        "-o {output:q} 2> {log:q}"


rule tracks:
    input:
        fasta=genome_file("fasta"),
        gff=genome_file("gff"),
        model=model_input,
    output:
        directory(f"{OUT}/tracks/{{genome}}"),
    log:
        f"{OUT}/logs/tracks/{{genome}}.log",
    benchmark:
        f"{OUT}/benchmarks/tracks/{{genome}}.tsv"
    conda:
        "../envs/cistron.yaml"
    threads: needs("tracks", "threads")
    resources:
        mem_mb=needs("tracks", "mem_mb"),
        runtime=needs("tracks", "runtime"),
        gpu=needs("tracks", "gpu"),
    params:
        model=model_option,
        genome=genome_options,
        device=device("tracks"),
        extra=extra("tracks"),
    shell:
        "cistron tracks --force --device {params.device} --threads {threads} "
        "--fasta {input.fasta:q} --model {params.model} {params.genome} {params.extra} "
        "-o {output:q} 2> {log:q}"


# The contigs of a genome are known once it is read: one job of `saturate` each.
checkpoint contigs:
    input:
        genome_file("fasta"),
    output:
        temp(f"{OUT}/saturate/{{genome}}.contigs.txt"),
    log:
        f"{OUT}/logs/contigs/{{genome}}.log",
    conda:
        "../envs/cistron.yaml"
    script:
        "../scripts/contigs.py"


rule saturate:
    input:
        fasta=genome_file("fasta"),
        gff=genome_file("gff"),
        model=model_input,
    output:
        temp(f"{OUT}/saturate/parts/{{genome}}/{{contig}}.tsv.gz"),
    log:
        f"{OUT}/logs/saturate/{{genome}}/{{contig}}.log",
    benchmark:
        f"{OUT}/benchmarks/saturate/{{genome}}/{{contig}}.tsv"
    conda:
        "../envs/cistron.yaml"
    threads: needs("saturate", "threads")
    resources:
        mem_mb=needs("saturate", "mem_mb"),
        runtime=needs("saturate", "runtime"),
        gpu=needs("saturate", "gpu"),
    params:
        model=model_option,
        genome=genome_options,
        device=device("saturate"),
        extra=extra("saturate"),
    shell:
        "cistron score saturate --force --device {params.device} --threads {threads} "
        "--fasta {input.fasta:q} --model {params.model} {params.genome} {params.extra} "
        "--region {wildcards.contig:q} -o {output:q} 2> {log:q}"


rule gather_saturate:
    input:
        contig_parts,
    output:
        f"{OUT}/saturate/{{genome}}.tsv.gz",
    log:
        f"{OUT}/logs/gather_saturate/{{genome}}.log",
    benchmark:
        f"{OUT}/benchmarks/gather_saturate/{{genome}}.tsv"
    conda:
        "../envs/cistron.yaml"
    threads: needs("gather_saturate", "threads")
    resources:
        mem_mb=needs("gather_saturate", "mem_mb"),
        runtime=needs("gather_saturate", "runtime"),
    shell:
        "cistron gather --force --threads {threads} {input:q} -o {output:q} 2> {log:q}"
