"""VCF files, scored in parts and put together again."""


rule score_vcf:
    input:
        vcf=lambda wildcards: SAMPLES[wildcards.sample]["vcf"],
        fasta=genome_file("fasta"),
        gff=genome_file("gff"),
        model=model_input,
    output:
        temp(f"{OUT}/variants/parts/{{sample}}/{{scatteritem}}.vcf.gz"),
    log:
        f"{OUT}/logs/score_vcf/{{sample}}/{{scatteritem}}.log",
    benchmark:
        f"{OUT}/benchmarks/score_vcf/{{sample}}/{{scatteritem}}.tsv"
    conda:
        "../envs/cistron.yaml"
    threads: needs("score_vcf", "threads")
    resources:
        mem_mb=needs("score_vcf", "mem_mb"),
        runtime=needs("score_vcf", "runtime"),
        gpu=needs("score_vcf", "gpu"),
    params:
        shard=lambda wildcards: wildcards.scatteritem.replace("-of-", "/"),
        model=model_option,
        genome=genome_options,
        device=device("score_vcf"),
        version="" if config["provenance"] else "--no-version",
        extra=extra("score_vcf"),
    shell:
        "cistron score vcf --force --device {params.device} --threads {threads} "
        "--fasta {input.fasta:q} --model {params.model} {params.genome} {params.version} "
        "{params.extra} --shard {params.shard} {input.vcf:q} -o {output:q} 2> {log:q}"


rule gather_vcf:
    input:
        gather.vcf(f"{OUT}/variants/parts/{{{{sample}}}}/{{scatteritem}}.vcf.gz"),
    output:
        vcf=f"{OUT}/variants/{{sample}}.vcf.gz",
        index=[f"{OUT}/variants/{{sample}}.vcf.gz.tbi"] if config["index"] else [],
    log:
        f"{OUT}/logs/gather_vcf/{{sample}}.log",
    benchmark:
        f"{OUT}/benchmarks/gather_vcf/{{sample}}.tsv"
    conda:
        "../envs/cistron.yaml"
    threads: needs("gather_vcf", "threads")
    resources:
        mem_mb=needs("gather_vcf", "mem_mb"),
        runtime=needs("gather_vcf", "runtime"),
    params:
        index="--write-index" if config["index"] else "",
    shell:
        "cistron gather --force --threads {threads} {params.index} {input:q} -o {output.vcf:q} "
        "2> {log:q}"
