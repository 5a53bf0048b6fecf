"""Genomes to a corpus, and the corpus to a model."""


rule corpus_table:
    input:
        [genome["fasta"] for genome in GENOMES.values()],
    output:
        temp(f"{OUT}/corpus.tsv"),
    log:
        f"{OUT}/logs/corpus_table.log",
    conda:
        "../envs/cistron.yaml"
    params:
        rows=[
            (name, genome["fasta"], genome.get("split", "train"))
            for name, genome in GENOMES.items()
        ],
    script:
        "../scripts/corpus_table.py"


rule corpus:
    input:
        table=f"{OUT}/corpus.tsv",
        fasta=[
            genome["fasta"]
            for genome in GENOMES.values()
            if genome.get("split", "train") != "none"
        ],
    output:
        directory(f"{OUT}/corpus"),
    log:
        f"{OUT}/logs/corpus.log",
    benchmark:
        f"{OUT}/benchmarks/corpus.tsv"
    conda:
        "../envs/cistron.yaml"
    threads: needs("corpus", "threads")
    resources:
        mem_mb=needs("corpus", "mem_mb"),
        runtime=needs("corpus", "runtime"),
    params:
        extra=extra("corpus"),
    shell:
        "cistron corpus build --force --threads {threads} --table {input.table:q} "
        "--out {output:q} {params.extra} 2> {log:q}"


# Checkpoints lie beside the output and outlive a failed or killed job: the next one goes on
# from the latest.
rule pretrain:
    input:
        corpus=f"{OUT}/corpus",
        config=config["pretrain"]["config"],
    output:
        model=directory(f"{OUT}/pretrain/model"),
    log:
        f"{OUT}/logs/pretrain.log",
    benchmark:
        f"{OUT}/benchmarks/pretrain.tsv"
    conda:
        "../envs/cistron.yaml"
    threads: needs("pretrain", "threads")
    resources:
        mem_mb=needs("pretrain", "mem_mb"),
        runtime=needs("pretrain", "runtime"),
        gpu=needs("pretrain", "gpu"),
    params:
        run=lambda wildcards, output: Path(output.model).parent,
        launcher=config["pretrain"]["launcher"],
        sets=" ".join(f"--set {shlex.quote(item)}" for item in config["pretrain"]["set"]),
        device=device("pretrain"),
        extra=extra("pretrain"),
    shell:
        "{params.launcher} cistron pretrain --device {params.device} --threads {threads} "
        "--config {input.config:q} --corpus {input.corpus:q} --out {params.run:q} --resume auto "
        "{params.sets} {params.extra} 2> {log:q}"


rule eval:
    input:
        fasta=genome_file("fasta"),
        gff=genome_file("gff"),
        model=model_input,
        corpus=f"{OUT}/corpus" if TRAINED else [],
    output:
        json=f"{OUT}/eval/{{genome}}.json",
        plot=report(
            f"{OUT}/eval/{{genome}}.svg",
            category="Evaluation",
            caption="../report/eval.rst",
            labels={"genome": "{genome}"},
        ),
    log:
        f"{OUT}/logs/eval/{{genome}}.log",
    benchmark:
        f"{OUT}/benchmarks/eval/{{genome}}.tsv"
    conda:
        "../envs/cistron.yaml"
    threads: needs("eval", "threads")
    resources:
        mem_mb=needs("eval", "mem_mb"),
        runtime=needs("eval", "runtime"),
        gpu=needs("eval", "gpu"),
    params:
        model=model_option,
        device=device("eval"),
        gff=lambda wildcards, input: option("--gff", input.get("gff")),
        corpus=lambda wildcards, input: option("--corpus", input.get("corpus")),
        extra=extra("eval"),
    shell:
        "cistron eval lm --device {params.device} --threads {threads} --model {params.model} "
        "{params.gff} {params.corpus} --json --plot {output.plot:q} {params.extra} {input.fasta:q} "
        "> {output.json:q} 2> {log:q}"
