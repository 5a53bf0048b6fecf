//! A page of plots and tables in one HTML file that loads nothing.

/// A cell of a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Words, at the left.
    Text(String),
    /// A number with its decimals, at the right.
    Number(f64, usize),
    /// A count with separators, at the right.
    Count(u64),
}

/// A page that grows from top to bottom. It is legible on a telephone and on paper.
#[derive(Clone, Debug)]
pub struct Page {
    title: String,
    contents: Vec<(String, String)>,
    body: String,
}

/// Text as HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

impl Page {
    /// An empty page.
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            contents: Vec::new(),
            body: String::new(),
        }
    }

    /// Begins a section.
    pub fn section(&mut self, heading: &str) {
        let id = format!("s{}", self.contents.len() + 1);
        self.body += &format!("<h2 id=\"{id}\">{}</h2>\n", escape(heading));
        self.contents.push((id, heading.to_owned()));
    }

    /// A smaller heading.
    pub fn heading(&mut self, text: &str) {
        self.body += &format!("<h3>{}</h3>\n", escape(text));
    }

    /// A paragraph.
    pub fn text(&mut self, text: &str) {
        self.body += &format!("<p>{}</p>\n", escape(text));
    }

    /// Plots side by side where there is room, each with a caption.
    pub fn figures<'a>(&mut self, figures: impl IntoIterator<Item = (String, &'a str)>) {
        self.body += "<div class=\"figures\">\n";
        for (svg, caption) in figures {
            let caption = escape(caption);
            self.body += &format!("<figure>\n{svg}<figcaption>{caption}</figcaption></figure>\n");
        }
        self.body += "</div>\n";
    }

    /// A table; it scrolls by itself where the page is too narrow.
    pub fn table(&mut self, head: &[&str], rows: &[Vec<Cell>]) {
        self.body += "<div class=\"table\"><table>\n<thead><tr>";
        for (i, name) in head.iter().enumerate() {
            let words = rows.first().and_then(|row| row.get(i));
            let class = if matches!(words, Some(Cell::Text(_)) | None) {
                ""
            } else {
                " class=\"n\""
            };
            self.body += &format!("<th{class}>{}</th>", escape(name));
        }
        self.body += "</tr></thead>\n<tbody>\n";
        for row in rows {
            self.body += "<tr>";
            for cell in row {
                self.body += &match cell {
                    Cell::Text(text) if text.len() > 40 => {
                        format!("<td class=\"w\">{}</td>", escape(text))
                    }
                    Cell::Text(text) => format!("<td>{}</td>", escape(text)),
                    Cell::Number(value, decimals) => {
                        format!("<td class=\"n\">{}</td>", number(*value, *decimals))
                    }
                    Cell::Count(count) => format!("<td class=\"n\">{}</td>", separated(*count)),
                };
            }
            self.body += "</tr>\n";
        }
        self.body += "</tbody></table></div>\n";
    }

    /// HTML that is right already.
    pub fn raw(&mut self, html: &str) {
        self.body += html;
    }

    /// The page.
    pub fn html(&self) -> String {
        let title = escape(&self.title);
        let contents: String = self
            .contents
            .iter()
            .map(|(id, heading)| format!("<li><a href=\"#{id}\">{}</a></li>\n", escape(heading)))
            .collect();
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n\
             <h1>{title}</h1>\n<nav><ol>\n{contents}</ol></nav>\n{}</main>\n</body>\n</html>\n",
            include_str!("page.css"),
            self.body
        )
    }
}

fn number(value: f64, decimals: usize) -> String {
    if value.is_finite() {
        format!("{value:.decimals$}")
    } else {
        "–".to_owned()
    }
}

/// Digits in groups of three.
fn separated(count: u64) -> String {
    let digits = count.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .filter_map(|group| std::str::from_utf8(group).ok())
        .collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_loads_nothing_and_escapes_text() {
        let mut page = Page::new("a < b");
        page.section("One & two");
        page.text("x > y");
        page.table(
            &["name", "n"],
            &[
                vec![Cell::Text("<i>".into()), Cell::Count(1_234_567)],
                vec![Cell::Text("b".into()), Cell::Number(f64::NAN, 2)],
            ],
        );
        page.figures([("<svg></svg>\n".to_owned(), "a figure")]);
        let html = page.html();
        for part in [
            "a &lt; b",
            "<a href=\"#s1\">One &amp; two</a>",
            "x &gt; y",
            "&lt;i&gt;",
            "1,234,567",
            "–",
            "a figure",
        ] {
            assert!(html.contains(part), "{part}");
        }
        for forbidden in ["http:", "https:", "src=", "@import", "url("] {
            assert!(!html.contains(forbidden), "{forbidden}");
        }
        assert_eq!(
            (separated(7), separated(1000)),
            ("7".to_owned(), "1,000".to_owned())
        );
    }
}
