// Parameters, checked against nextflow_schema.json.

import groovy.json.JsonSlurper
import java.nio.file.Path

class Parameters {

    /** Stops at parameters that are unknown, of another type, or that must be given. */
    static void check(Map params, Path schema) {
        def groups = new JsonSlurper().parse(schema)['$defs'].values()
        def known = groups.collectEntries { group -> group.properties }
        def problems = []
        params.each { name, value ->
            // Nextflow keeps --some-name as someName too.
            def same = name.replaceAll(/([A-Z])/) { all, letter -> "_${letter.toLowerCase()}" }.replace('-', '_')
            if (!known.containsKey(same)) {
                problems << "--${name}: unknown; there are ${known.keySet().collect { k -> "--${k}" }.join(' ')}"
            }
            else if (value != null) {
                problems += problem(name, value, known[same])
            }
        }
        groups.collectMany { group -> group.required ?: [] }.each { name ->
            if (!params[name]) {
                problems << "--${name} is required: ${known[name].description}"
            }
        }
        if (problems) {
            throw new IllegalArgumentException(problems.join('\n'))
        }
    }

    private static List<String> problem(String name, value, Map wanted) {
        def text = value.toString()
        def fits = [
            integer: { -> text ==~ /-?\d+/ },
            boolean: { -> text in ['true', 'false'] },
            string: { -> !(value instanceof Boolean) },
        ][wanted.type]
        if (fits && !fits()) {
            return ["--${name} ${text}: expected ${wanted.type}"]
        }
        if (wanted.minimum != null && (text as long) < wanted.minimum) {
            return ["--${name} ${text}: expected at least ${wanted.minimum}"]
        }
        if (wanted.pattern && !(text =~ wanted.pattern)) {
            return ["--${name} ${text}: ${wanted.description}"]
        }
        return []
    }
}
