//! An assembly hub for UCSC, in one file.

use super::{GENES_BIGBED, Kind, Session, TWOBIT};

/// `hub.txt`.
pub(super) fn hub(session: &Session) -> String {
    let name = &session.name;
    let mut text = format!(
        "hub {name}\nshortLabel {name}\nlongLabel Chunks of a genome language model along {name}\n\
         useOneFile on\nemail nobody@localhost\n\n\
         genome {name}\ntwoBitPath {TWOBIT}\norganism {name}\nscientificName {name}\n\
         description {name}\ndefaultPos {}\n",
        session.locus()
    );
    if session.genes_bigbed {
        text += &format!(
            "\ntrack genes\nshortLabel Genes\nlongLabel Genes of the annotation\n\
             type bigBed 9 +\nbigDataUrl {GENES_BIGBED}\nvisibility pack\n"
        );
    }
    for track in &session.tracks {
        let stem = track.stem();
        let label = track.label();
        let chunks = track.kind == Kind::Chunks;
        let present = if chunks {
            session.files.bigbed
        } else {
            session.files.bigwig
        };
        if !present {
            continue;
        }
        let visibility = match (track.shown(), chunks) {
            (false, _) => "hide",
            (true, true) => "dense",
            (true, false) => "full",
        };
        text += &format!(
            "\ntrack {}\nshortLabel {label}\nlongLabel {label}\nvisibility {visibility}\n\
             color {}\n",
            stem.replace('.', "_"),
            track.colour()
        );
        if chunks {
            text += &format!("type bigBed 9 +\nitemRgb on\nbigDataUrl {stem}.bb\n");
        } else {
            let limits = match track.range() {
                Some((low, high)) => format!("autoScale off\nviewLimits {low}:{high}\n"),
                None => "autoScale on\n".to_owned(),
            };
            text +=
                &format!("type bigWig\nmaxHeightPixels 128:40:8\n{limits}bigDataUrl {stem}.bw\n");
        }
    }
    text
}
