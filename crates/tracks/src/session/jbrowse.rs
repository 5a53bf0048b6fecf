//! `config.json` of JBrowse 2.

use serde_json::{Value, json};

use super::{FASTA, GENES, Kind, Session, Track};

fn uri(file: &str) -> Value {
    json!({ "uri": file, "locationType": "UriLocation" })
}

fn tabix(kind: &str, location: &str, file: &str) -> Value {
    json!({
        "type": kind,
        location: uri(file),
        "index": { "location": uri(&format!("{file}.tbi")), "indexType": "TBI" },
    })
}

/// The configuration: assembly, tracks and the view that is shown first.
pub(super) fn config(session: &Session) -> Value {
    let name = &session.name;
    let mut tracks = Vec::new();
    if session.genes {
        tracks.push(json!({
            "type": "FeatureTrack",
            "trackId": "genes",
            "name": "Genes",
            "assemblyNames": [name],
            "category": ["Annotation"],
            "adapter": tabix("Gff3TabixAdapter", "gffGzLocation", GENES),
        }));
    }
    tracks.extend(
        session
            .present()
            .map(|(track, file)| of(track, &file, name)),
    );
    let shown: Vec<String> = std::iter::once("genes".to_owned())
        .filter(|_| session.genes)
        .chain(
            session
                .present()
                .filter(|(t, _)| t.shown())
                .map(|(t, _)| t.stem()),
        )
        .collect();
    json!({
        "assemblies": [{
            "name": name,
            "sequence": {
                "type": "ReferenceSequenceTrack",
                "trackId": format!("{name}-sequence"),
                "adapter": {
                    "type": "BgzipFastaAdapter",
                    "fastaLocation": uri(FASTA),
                    "faiLocation": uri(&format!("{FASTA}.fai")),
                    "gziLocation": uri(&format!("{FASTA}.gzi")),
                },
            },
        }],
        "tracks": tracks,
        "defaultSession": {
            "name": format!("Chunks of {name}"),
            "views": [{
                "id": "tracks",
                "type": "LinearGenomeView",
                "trackLabels": "offset",
                "init": {
                    "assembly": name,
                    "loc": session.locus(),
                    "tracks": shown,
                },
            }],
        },
    })
}

fn of(track: &Track, file: &str, assembly: &str) -> Value {
    let stem = track.stem();
    let category = match track.stage {
        Some(stage) => format!("Stage {stage}"),
        None => "Bases".to_owned(),
    };
    let common = json!({
        "trackId": stem,
        "name": track.label(),
        "assemblyNames": [assembly],
        "category": [category],
    });
    let own = if track.kind == Kind::Chunks {
        let adapter = if file.ends_with(".bb") {
            json!({ "type": "BigBedAdapter", "bigBedLocation": uri(file) })
        } else {
            tabix("BedTabixAdapter", "bedGzLocation", file)
        };
        json!({
            "type": "FeatureTrack",
            "adapter": adapter,
            "displays": [{
                "type": "LinearBasicDisplay",
                "displayId": format!("{stem}-display"),
                "height": 40,
                "color": track.hex(),
                "renderer": {
                    "type": "SvgFeatureRenderer",
                    "color1": track.hex(),
                    "displayMode": "collapse",
                    "showLabels": false,
                },
            }],
        })
    } else {
        let adapter = if file.ends_with(".bw") {
            json!({ "type": "BigWigAdapter", "bigWigLocation": uri(file) })
        } else {
            tabix("BedGraphTabixAdapter", "bedGraphGzLocation", file)
        };
        let mut display = json!({
            "type": "LinearWiggleDisplay",
            "displayId": format!("{stem}-display"),
            "height": 80,
            "color": track.hex(),
            "renderers": {
                "XYPlotRenderer": { "type": "XYPlotRenderer", "color": track.hex() },
            },
        });
        if let Some((low, high)) = track.range() {
            display["minScore"] = json!(low);
            display["maxScore"] = json!(high);
        }
        json!({ "type": "QuantitativeTrack", "adapter": adapter, "displays": [display] })
    };
    merge(common, own)
}

/// The entries of both objects.
fn merge(mut first: Value, second: Value) -> Value {
    if let (Value::Object(first), Value::Object(second)) = (&mut first, second) {
        first.extend(second);
    }
    first
}
