//! The pages that open JBrowse 2 and igv.js from a copy beside them.

use super::{Session, escape};

/// Opens `config.json` in the JBrowse 2 app of `jbrowse/`.
pub(super) fn jbrowse(session: &Session) -> String {
    page(include_str!("jbrowse.html"), session)
}

/// Opens `igv.json` in the igv.js of `igv/`.
pub(super) fn igv(session: &Session) -> String {
    page(include_str!("igv.html"), session)
}

fn page(template: &str, session: &Session) -> String {
    template.replace("{name}", &escape(&session.name))
}
