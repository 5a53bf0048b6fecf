"""Measured sequences: the model's scores beside them, and heads that learn from them."""


rule score_dms:
    input:
        table=scan_file("table"),
        cds=scan_file("cds"),
        protein=scan_file("protein"),
        fasta=genome_file("fasta"),
        gff=genome_file("gff"),
        model=model_input,
    output:
        tsv=f"{OUT}/dms/{{scan}}.tsv",
        json=report(
            f"{OUT}/dms/{{scan}}.json",
            category="Scans",
            caption="../report/dms.rst",
            labels={"scan": "{scan}"},
        ),
    log:
        f"{OUT}/logs/score_dms/{{scan}}.log",
    benchmark:
        f"{OUT}/benchmarks/score_dms/{{scan}}.tsv"
    conda:
        "../envs/cistron.yaml"
    threads: needs("score_dms", "threads")
    resources:
        mem_mb=needs("score_dms", "mem_mb"),
        runtime=needs("score_dms", "runtime"),
        gpu=needs("score_dms", "gpu"),
    params:
        model=model_option,
        scan=scan_options,
        device=device("score_dms"),
        extra=extra("score_dms"),
    shell:
        "cistron score dms --force --json --device {params.device} --threads {threads} "
        "--dms {input.table:q} --model {params.model} {params.scan} {params.extra} "
        "-o {output.tsv:q} > {output.json:q} 2> {log:q}"


rule head:
    input:
        table=head_file("table"),
        wild_type=head_file("wild_type"),
    output:
        report(
            directory(f"{OUT}/heads/{{head}}"),
            patterns=["plots/{plot}.svg"],
            category="Heads",
            caption="../report/head.rst",
            labels={"head": "{head}", "plot": "{plot}"},
        ),
    log:
        f"{OUT}/logs/head/{{head}}.log",
    benchmark:
        f"{OUT}/benchmarks/head/{{head}}.tsv"
    conda:
        "../envs/cistron.yaml"
    threads: needs("head", "threads")
    resources:
        mem_mb=needs("head", "mem_mb"),
        runtime=needs("head", "runtime"),
        gpu=needs("head", "gpu"),
    params:
        head=head_options,
        device=device("head"),
        extra=extra("head"),
    shell:
        "cistron head train --force --device {params.device} --threads {threads} "
        "--table {input.table:q} {params.head} {params.extra} --out {output:q} > {log:q} 2>&1"


rule head_predict:
    input:
        head=f"{OUT}/heads/{{head}}",
        table=head_file("predict"),
    output:
        f"{OUT}/predictions/{{head}}.tsv",
    log:
        f"{OUT}/logs/head_predict/{{head}}.log",
    benchmark:
        f"{OUT}/benchmarks/head_predict/{{head}}.tsv"
    conda:
        "../envs/cistron.yaml"
    threads: needs("head_predict", "threads")
    resources:
        mem_mb=needs("head_predict", "mem_mb"),
        runtime=needs("head_predict", "runtime"),
        gpu=needs("head_predict", "gpu"),
    params:
        columns=head_columns,
        device=device("head_predict"),
        extra=extra("head_predict"),
    shell:
        "cistron head predict --force --device {params.device} --threads {threads} "
        "--head {input.head:q} --table {input.table:q} {params.columns} {params.extra} "
        "-o {output:q} 2> {log:q}"
