// Tables of inputs, checked against their JSON schemas.

import groovy.json.JsonSlurper
import java.nio.file.Files
import java.nio.file.Path
import java.util.zip.GZIPInputStream
import nextflow.Nextflow

class Table {

    /** Rows by column name. Cells of `format: file-path` become paths; empty cells are left out. */
    static List<Map> read(Path table, Path schema, String key) {
        if (!Files.exists(table)) {
            throw new IllegalArgumentException("${table}: no such table")
        }
        def columns = new JsonSlurper().parse(schema).items
        def lines = table.readLines().findAll { line -> line.trim() }
        if (!lines) {
            throw new IllegalArgumentException("${table}: empty; expected a header line")
        }
        def separator = lines[0].contains('\t') ? '\t' : ','
        def header = cells(lines[0], separator)
        def unknown = header - columns.properties.keySet()
        def missing = columns.required - header
        if (unknown || missing) {
            throw new IllegalArgumentException("${table}: " +
                (unknown ? "unknown columns ${unknown.join(', ')}; " : '') +
                (missing ? "missing columns ${missing.join(', ')}; " : '') +
                "there are ${columns.properties.keySet().join(', ')}")
        }
        def seen = [] as Set
        return lines.drop(1).withIndex(2).collect { line, number ->
            def place = "${table}, line ${number}"
            def values = cells(line, separator)
            if (values.size() != header.size()) {
                throw new IllegalArgumentException(
                    "${place}: ${values.size()} columns where the header has ${header.size()}")
            }
            def row = [header, values].transpose().findAll { pair -> pair[1] }.collectEntries()
            columns.required.each { name ->
                if (!row[name]) {
                    throw new IllegalArgumentException("${place}: no ${name}")
                }
            }
            if (!seen.add(row[key])) {
                throw new IllegalArgumentException("${place}: ${key} '${row[key]}' comes twice")
            }
            row.collectEntries { name, value -> [name, cell(value, columns.properties[name], name, place, table)] }
        }
    }

    /** Stops where a column of `rows` names what `known` lacks; an empty cell names nothing. */
    static void require(List<Map> rows, String column, List known, table, other) {
        rows.each { row ->
            if (row[column] && !(row[column] in known)) {
                throw new IllegalArgumentException(
                    "${table}: ${column} '${row[column]}' is not in ${other}; add it there")
            }
        }
    }

    /** The name that a corpus gives a genome: its file without .fna, .fa or .fasta and .gz. */
    static String stem(Path fasta) {
        return fasta.name.replaceFirst(/\.gz$|\.bgz$/, '').replaceFirst(/\.(fna|fa|fasta)$/, '')
    }

    /** The folder of a model; an empty list for a model inside the binary. */
    static model(String name) {
        def folder = Nextflow.file(name, type: 'dir') as Path
        if (Files.isDirectory(folder)) {
            return folder
        }
        if (name ==~ /[A-Za-z0-9-]+/) {
            return []
        }
        throw new IllegalArgumentException("--model ${name}: no such folder")
    }

    /** Names of the contigs of a FASTA file, plain or gzipped. */
    static List<String> contigs(Path fasta) {
        def bytes = Files.newInputStream(fasta)
        def start = bytes.withCloseable { input -> [input.read(), input.read()] }
        def input = Files.newInputStream(fasta)
        if (start == [0x1f, 0x8b]) {
            input = new GZIPInputStream(input)
        }
        def names = []
        input.withReader { reader ->
            reader.eachLine { line ->
                if (line.startsWith('>')) {
                    names << line.substring(1).tokenize()[0]
                }
            }
        }
        return names
    }

    private static List<String> cells(String line, String separator) {
        return line.split(java.util.regex.Pattern.quote(separator), -1).collect { cell ->
            cell.trim().replaceFirst(/^"(.*)"$/, '$1')
        }
    }

    private static cell(String value, Map column, String name, String place, Path table) {
        if (column.enum && !(value in column.enum)) {
            throw new IllegalArgumentException(
                "${place}: ${name} is '${value}'; expected ${column.enum.join(', ')}")
        }
        if (column.pattern && !(value =~ column.pattern)) {
            throw new IllegalArgumentException(
                "${place}: ${name} is '${value}'; ${column.errorMessage ?: "expected ${column.pattern}"}")
        }
        if (column.format != 'file-path') {
            return value
        }
        // From the folder that the pipeline runs in, else from that of the table.
        def path = Nextflow.file(value) as Path
        if (!Files.exists(path) && !(value =~ '^[a-z0-9]+:/|^/')) {
            path = table.toAbsolutePath().parent.resolve(value).normalize()
        }
        if (!Files.exists(path)) {
            throw new IllegalArgumentException("${place}: ${name} ${value}: no such file")
        }
        return path
    }
}
