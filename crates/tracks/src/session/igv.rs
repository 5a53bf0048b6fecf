//! Sessions of IGV: XML for the desktop, JSON for igv.js and IGV-Web.

use serde_json::{Value, json};

use super::{FASTA, GENES, Kind, Session, escape};

/// The session of igv.js.
pub(super) fn json(session: &Session) -> Value {
    let mut tracks = vec![json!({ "type": "sequence", "order": 0 })];
    if session.genes {
        tracks.push(json!({
            "name": "Genes",
            "type": "annotation",
            "format": "gff3",
            "url": GENES,
            "indexURL": format!("{GENES}.tbi"),
            "displayMode": "EXPANDED",
            "height": 90,
            "nameField": "gene",
            "searchable": false,
            "visibilityWindow": 1_000_000,
        }));
    }
    for (track, file) in session.present().filter(|(track, _)| track.shown()) {
        let colour = format!("rgb({})", track.colour());
        let mut entry = json!({ "name": track.label(), "url": file, "color": colour });
        if file.ends_with(".gz") {
            entry["indexURL"] = json!(format!("{file}.tbi"));
        }
        if track.kind == Kind::Chunks {
            entry["type"] = json!("annotation");
            entry["format"] = json!(if file.ends_with(".bb") {
                "bigBed"
            } else {
                "bed"
            });
            entry["displayMode"] = json!("COLLAPSED");
            entry["height"] = json!(40);
            entry["visibilityWindow"] = json!(200_000);
        } else {
            entry["type"] = json!("wig");
            entry["format"] = json!(if file.ends_with(".bw") {
                "bigwig"
            } else {
                "bedgraph"
            });
            entry["height"] = json!(70);
            match track.range() {
                Some((low, high)) => {
                    entry["min"] = json!(low);
                    entry["max"] = json!(high);
                }
                None => entry["autoscale"] = json!(true),
            }
        }
        tracks.push(entry);
    }
    json!({
        "reference": {
            "id": session.name,
            "name": session.name,
            "fastaURL": FASTA,
            "indexURL": format!("{FASTA}.fai"),
            "compressedIndexURL": format!("{FASTA}.gzi"),
            "wholeGenomeView": false,
        },
        "locus": session.locus(),
        "tracks": tracks,
    })
}

/// The session of the desktop program.
pub(super) fn xml(session: &Session) -> String {
    let mut resources = String::new();
    let mut data = String::new();
    let mut features = String::new();
    if session.genes {
        resources += &format!("    <Resource path=\"{GENES}\"/>\n");
        features +=
            &format!("    <Track id=\"{GENES}\" name=\"Genes\" displayMode=\"EXPANDED\"/>\n");
    }
    for (track, file) in session.present() {
        let (file, colour) = (escape(&file), track.colour());
        let shown = track.shown();
        resources += &format!("    <Resource path=\"{file}\"/>\n");
        let open = format!(
            "    <Track id=\"{file}\" name=\"{}\" color=\"{colour}\" visible=\"{shown}\"",
            escape(&track.label())
        );
        if track.kind == Kind::Chunks {
            features += &format!("{open} displayMode=\"COLLAPSED\"/>\n");
        } else if let Some((low, high)) = track.range() {
            data += &format!(
                "{open} autoScale=\"false\" height=\"60\" renderer=\"BAR_CHART\">\n      \
                 <DataRange type=\"LINEAR\" minimum=\"{low}\" baseline=\"0\" maximum=\"{high}\"/>\n    \
                 </Track>\n"
            );
        } else {
            data += &format!("{open} autoScale=\"true\" height=\"60\" renderer=\"BAR_CHART\"/>\n");
        }
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"no\"?>\n\
         <Session genome=\"{FASTA}\" locus=\"{}\" version=\"8\">\n  <Resources>\n{resources}  \
         </Resources>\n  <Panel name=\"DataPanel\">\n{data}  </Panel>\n  \
         <Panel name=\"FeaturePanel\">\n{features}  </Panel>\n</Session>\n",
        escape(&session.locus())
    )
}
