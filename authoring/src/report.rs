//! A page for the owner of a site: how good it is, what is wrong with its photographs, what would help.

use std::collections::{BTreeMap, BTreeSet};

use models::image::RgbImage;
use rayon::prelude::*;

use crate::calibration::Share;
use crate::html::{self, Kind};
use crate::photos::Photos;
use crate::plot::{escape, put};
use crate::quality::{FEW, Quality};
use crate::words::counted;

/// Findings of each kind shown at most.
const SHOWN: usize = 24;
/// Classes listed at most.
const LISTED: usize = 60;
/// Longer side of a picture, in pixels; it is shown at half of it.
pub const SIDE: u32 = 256;
/// JPEG quality of the picture that it is made of.
pub const QUALITY: u8 = 95;

const STYLE: &str = "<style>\
body{max-width:72rem}h1{font-size:1.6rem;margin-bottom:.2rem}h2{margin-top:2.6rem}\
.lead{opacity:.75;margin-top:0}\
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(11rem,1fr));gap:1rem;padding:0;margin:1.4rem 0}\
.figures div{border:1px solid #8885;border-radius:12px;padding:.9rem 1rem}\
.figures dt{font-size:.86rem}.figures dd{margin:.2rem 0 0;font-size:1.7rem;font-weight:650}\
.figures small{display:block;font-size:.8rem;font-weight:400;line-height:1.35}\
ol.advice{padding-left:1.3rem}ol.advice li{margin:.35rem 0}\
.pairs{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,17.5rem),1fr));gap:1rem}\
.pair{border:1px solid #8885;border-radius:12px;padding:.8rem}\
.pair p{margin:0 0 .5rem;overflow-wrap:anywhere}.pair .two{display:flex;gap:.6rem;align-items:flex-start}\
.pair figure,.row figure{width:7.6rem}.pair figure img,.row figure img{max-width:7.4rem;max-height:7.4rem}\
table{width:100%;max-width:40rem}td:nth-child(n+2),th:nth-child(n+2){text-align:right}\
td,th{border-bottom:1px solid #8884;overflow-wrap:anywhere}\
@media(max-width:30rem){body{margin:1rem auto}figure{width:6.4rem}.pair figure,.row figure{width:6.4rem}\
.pair figure img,.row figure img{max-width:6.2rem;max-height:6.2rem}}</style>";

/// The page: one file that needs nothing beside it. Photographs that cannot be read any more are left out of it.
pub fn page(title: &str, quality: &Quality, photos: &dyn Photos) -> String {
    let mistaken = quality.mistaken.iter().take(SHOWN).flat_map(|pair| pair.photos);
    let suspects = quality.suspects.iter().take(SHOWN);
    let suspects = suspects.flat_map(|one| one.near.iter().copied().chain([one.photo]));
    let doubles = quality.doubles.iter().take(SHOWN).flat_map(|double| double.photos);
    let empty = quality.empty.iter().take(SHOWN).copied();
    let shown: BTreeSet<usize> = mistaken.chain(suspects).chain(doubles).chain(empty).collect();
    let report = Report { quality, photos, pictures: pictures(photos, &shown) };
    let mut page =
        html::begin(&format!("{title}: report")).replace("</head>", &format!("{STYLE}</head>"));
    report.begin(&mut page);
    report.figures(&mut page);
    report.advice(&mut page);
    report.mistaken(&mut page);
    report.suspects(&mut page);
    report.doubles(&mut page);
    report.few(&mut page);
    report.empty(&mut page);
    page.push_str("</body></html>\n");
    page
}

/// Thumbnails of photographs.
fn pictures(photos: &dyn Photos, shown: &BTreeSet<usize>) -> BTreeMap<usize, RgbImage> {
    let read = |place: &usize| {
        // Large ones are not kept.
        let small = photos.figure(*place, SIDE, QUALITY)?;
        Some((*place, RgbImage::decode(&small).ok()?))
    };
    shown.par_iter().filter_map(read).collect()
}

struct Report<'a> {
    quality: &'a Quality,
    photos: &'a dyn Photos,
    pictures: BTreeMap<usize, RgbImage>,
}

/// A share in percent.
fn percent(share: Share) -> String {
    share.value().map_or_else(|| "–".to_owned(), |value| format!("{:.1} %", 100.0 * value))
}

fn figure(page: &mut String, name: &str, value: &str, note: &str) {
    put(
        page,
        format_args!(
            "<div><dt>{}</dt><dd>{}<small>{}</small></dd></div>",
            escape(name),
            escape(value),
            escape(note)
        ),
    );
}

/// How many more there are than are shown.
fn more(page: &mut String, all: usize, shown: usize) {
    if all > shown {
        put(page, format_args!("<p>{} more.</p>", all - shown));
    }
}

impl Report<'_> {
    fn label(&self, class: usize) -> String {
        escape(&self.quality.labels[class])
    }

    /// A photograph with its class and file.
    fn photo(&self, place: usize, kind: Kind) -> String {
        let Some(picture) = self.pictures.get(&place) else { return String::new() };
        let file = self.photos.path(place).file_name();
        let file = file.map_or(String::new(), |name| name.to_string_lossy().into_owned());
        let caption = format!("{} / {file}", self.photos.label(place));
        html::image(picture, SIDE, &caption, kind).unwrap_or_default()
    }

    fn begin(&self, page: &mut String) {
        put(
            page,
            format_args!(
                "<p class=\"lead\">{} of {}. For the owner: this page is not part of the site. Each picture is asked \
                 without itself.</p>",
                counted(self.quality.photos, "picture", "pictures"),
                counted(self.quality.labels.len(), "class", "classes")
            ),
        );
    }

    fn figures(&self, page: &mut String) {
        page.push_str("<h2>How good it is</h2><dl class=\"figures\">");
        if self.quality.labels.len() == 1 {
            page.push_str("</dl><p>There is one class, and everything gets its name.</p>");
            return;
        }
        let asked = counted(self.quality.found[0].of, "picture was", "pictures were");
        match [self.quality.recall(0), self.quality.recall(1)] {
            [Some([first, error]), Some([fifth, other])] => {
                let note = format!("± {error:.1}; {asked} asked");
                figure(page, "Named rightly at the first answer", &format!("{first:.1} %"), &note);
                let note = format!("± {other:.1}");
                figure(page, "The right name is among five", &format!("{fifth:.1} %"), &note);
            }
            _ => figure(page, "Named rightly", "–", "no class has two different pictures"),
        }
        if let Some(open) = self.quality.open {
            figure(page, "Known things named rightly", &percent(open.right), "at the threshold");
            let rest = "the others are called unknown";
            figure(page, "Known things named wrongly", &percent(open.wrong), rest);
            let note = "each picture as if its class were not there";
            figure(page, "Unknown things that get a name", &percent(open.named), note);
        }
        page.push_str("</dl>");
        for doubt in &self.quality.doubts {
            let doubt = escape(doubt);
            put(
                page,
                format_args!("<p>No threshold is kept, and the page uses its own: {doubt}.</p>"),
            );
        }
    }

    fn advice(&self, page: &mut String) {
        page.push_str("<h2>What would help most</h2>");
        if self.quality.advice.is_empty() {
            page.push_str("<p>Nothing stands out.</p>");
            return;
        }
        page.push_str("<ol class=\"advice\">");
        for (_, text) in &self.quality.advice {
            put(page, format_args!("<li>{}</li>", escape(text)));
        }
        page.push_str("</ol>");
    }

    /// Two photographs beside each other under a line of markup.
    fn pair(&self, page: &mut String, line: &str, photos: [usize; 2], kinds: [Kind; 2]) {
        let [one, other] = [self.photo(photos[0], kinds[0]), self.photo(photos[1], kinds[1])];
        put(
            page,
            format_args!(
                "<div class=\"pair\"><p>{line}</p><div class=\"two\">{one}{other}</div></div>"
            ),
        );
    }

    fn mistaken(&self, page: &mut String) {
        let all = &self.quality.mistaken;
        if all.is_empty() {
            return;
        }
        page.push_str(
            "<h2>Mistaken for each other</h2><p>Left a picture, right the one that it was taken for.</p>\
             <div class=\"pairs\">",
        );
        for pair in all.iter().take(SHOWN) {
            let [one, other] = pair.classes.map(|class| self.label(class));
            let line = format!(
                "<b>{one}</b> and <b>{other}</b>: {} of {}",
                pair.times,
                counted(pair.of, "picture", "pictures")
            );
            self.pair(page, &line, pair.photos, [Kind::Query, Kind::Wrong]);
        }
        page.push_str("</div>");
        more(page, all.len(), SHOWN);
    }

    fn suspects(&self, page: &mut String) {
        let all = &self.quality.suspects;
        if all.is_empty() {
            return;
        }
        page.push_str(
            "<h2>Perhaps in the wrong class</h2><p>The pictures nearest to the first one of each row are of another \
             class.</p>",
        );
        for suspect in all.iter().take(SHOWN) {
            put(
                page,
                format_args!(
                    "<p>In <b>{}</b>, looks like <b>{}</b></p><div class=\"row\">{}",
                    self.label(suspect.class),
                    self.label(suspect.looks),
                    self.photo(suspect.photo, Kind::Query)
                ),
            );
            for near in &suspect.near {
                page.push_str(&self.photo(*near, Kind::Wrong));
            }
            page.push_str("</div>");
        }
        more(page, all.len(), SHOWN);
    }

    fn doubles(&self, page: &mut String) {
        let all = &self.quality.doubles;
        if all.is_empty() {
            return;
        }
        page.push_str(
            "<h2>Doubles</h2><p>The same picture twice teaches nothing more; in two classes it does harm.</p>\
             <div class=\"pairs\">",
        );
        for double in all.iter().take(SHOWN) {
            let line = match (double.same, double.one_class) {
                (true, true) => "the same file, in one class",
                (true, false) => "<b>the same file, in two classes</b>",
                (false, true) => "nearly the same, in one class",
                (false, false) => "<b>nearly the same, in two classes</b>",
            };
            self.pair(page, line, double.photos, [Kind::Query, Kind::Query]);
        }
        page.push_str("</div>");
        more(page, all.len(), SHOWN);
    }

    fn few(&self, page: &mut String) {
        let all = &self.quality.few;
        if all.is_empty() {
            return;
        }
        put(
            page,
            format_args!(
                "<h2>Too few pictures</h2><p>Classes with fewer than {FEW} different pictures.</p><table><tr>\
                 <th>class</th><th>pictures</th></tr>"
            ),
        );
        for (class, count) in all.iter().take(LISTED) {
            put(page, format_args!("<tr><td>{}</td><td>{count}</td></tr>", self.label(*class)));
        }
        page.push_str("</table>");
        more(page, all.len(), LISTED);
    }

    fn empty(&self, page: &mut String) {
        let all = &self.quality.empty;
        if all.is_empty() {
            return;
        }
        page.push_str("<h2>No object found</h2><div class=\"row\">");
        for place in all.iter().take(SHOWN) {
            page.push_str(&self.photo(*place, Kind::Query));
        }
        page.push_str("</div>");
        more(page, all.len(), SHOWN);
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::picture::PictureError;
    use crate::quality::{Double, Mistaken, Open, Suspect};

    struct Shelf(Vec<PathBuf>, Vec<u8>);

    impl Photos for Shelf {
        fn count(&self) -> usize {
            self.0.len()
        }

        fn label(&self, place: usize) -> &str {
            ["<mug>", "<mug>"][place]
        }

        fn path(&self, place: usize) -> &Path {
            &self.0[place]
        }

        fn bytes(&self, _: usize) -> Result<Vec<u8>, PictureError> {
            Ok(self.1.clone())
        }
    }

    #[test]
    fn the_page_needs_nothing_beside_it_and_shows_names_as_text() {
        let picture = RgbImage::from_rgb(2, 1, vec![1, 2, 3, 200, 100, 0]).unwrap();
        let photos = Shelf(
            vec![PathBuf::from("a/1.png"), PathBuf::from("a/2.png")],
            picture.encode_png().unwrap(),
        );
        let share = |count, of| Share { count, of };
        let quality = Quality {
            photos: 2,
            labels: vec!["<mug>".to_owned(), "cup".to_owned()],
            found: [share(1, 2), share(2, 2)],
            open: Some(Open { right: share(1, 2), wrong: share(0, 2), named: share(1, 20) }),
            mistaken: vec![Mistaken { classes: [0, 1], times: 1, of: 2, photos: [0, 1] }],
            suspects: vec![Suspect { photo: 0, class: 0, looks: 1, near: vec![1], lead: 0.5 }],
            doubles: vec![Double { photos: [0, 1], same: true, one_class: false }],
            few: vec![(1, 1)],
            empty: vec![1],
            doubts: vec!["too <few>".to_owned()],
            advice: vec![(1, "Take <more>.".to_owned())],
            ..Quality::default()
        };
        let page = page("On <my> shelf", &quality, &photos);
        for told in [
            "On &lt;my&gt; shelf: report",
            "<dd>50.0 %<small>± 35.4; 2 pictures were asked</small>",
            "<dd>100.0 %",
            "<dd>5.0 %<small>each picture as if its class were not there",
            "<b>&lt;mug&gt;</b> and <b>cup</b>: 1 of 2 pictures",
            "In <b>&lt;mug&gt;</b>, looks like <b>cup</b>",
            "the same file, in two classes",
            "<td>cup</td><td>1</td>",
            "<li>Take &lt;more&gt;.</li>",
            "No object found",
            "the page uses its own: too &lt;few&gt;.",
            "&lt;mug&gt; / 1.png",
        ] {
            assert!(page.contains(told), "{told} is not in {page}");
        }
        assert_eq!(page.matches("src=\"data:image/jpeg;base64,").count(), 7);
        assert_eq!(page.matches("src=").count(), 7, "nothing lies beside it");
        assert!(!page.contains("<mug>") && !page.contains("http"));
        let nothing = super::page("Empty", &Quality::default(), &photos);
        assert!(nothing.contains("Nothing stands out.") && !nothing.contains("<img"));
    }
}
