//! The replay player for browsers, and a page that holds it with a recording.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hrm_common::checksum::digest;
use maud::{DOCTYPE, PreEscaped, html};

use super::recording::Recording;

/// Defines `hrmReplay(container, recording)`.
pub(crate) const SCRIPT: &str = include_str!("player.js");
/// The player's look, in light and dark.
pub(crate) const STYLE: &str = include_str!("player.css");

const PAGE_STYLE: &str = "\
body { margin: 1.5rem auto; padding: 0 1rem; max-width: 76rem; background: #ffffff; color: #23272e; \
font: 15px/1.4 system-ui, sans-serif; }
h1 { font-size: 1.3rem; }
@media (prefers-color-scheme: dark) { body { background: #15181d; color: #e6e9ee; } }
";

const START: &str = r#"
const recording = JSON.parse(document.getElementById("recording").textContent);
const player = hrmReplay(document.getElementById("replay"), recording);
if (!matchMedia("(prefers-reduced-motion: reduce)").matches) player.play();
"#;

/// Returns one HTML page with the player and the recording. It loads nothing, and its content security policy permits
/// nothing but its own script and style.
///
/// # Errors
///
/// Returns an error when the recording has numbers that JSON cannot express.
pub(crate) fn page(recording: &Recording) -> serde_json::Result<String> {
    // No text of the recording can end the element that holds it.
    let data = serde_json::to_string(recording)?.replace('<', "\\u003c");
    let title = format!("Replay: {}", recording.walkers.join(" beside "));
    let script = format!("{SCRIPT}{START}");
    let style = format!("{STYLE}{PAGE_STYLE}");
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; base-uri 'none'; form-action 'none'",
        source(&script),
        source(&style)
    );
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(style)) }
            }
            body {
                h1 { (title) }
                div id="replay" { noscript { "This replay needs JavaScript." } }
                script type="application/json" id="recording" { (PreEscaped(data)) }
                script { (PreEscaped(script)) }
            }
        }
    };
    Ok(page.into_string())
}

/// Returns the source expression of inline text in a content security policy.
fn source(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(digest(text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{super::fixture::recording, *};

    #[test]
    fn the_page_holds_the_recording_and_permits_its_own_text_only() {
        let recording = recording();
        let page = page(&recording).expect("numbers");
        let between = |from: &str, to: &str| {
            let (_, rest) = page.split_once(from).expect(from);
            rest.split_once(to).expect(to).0.to_owned()
        };
        let data = between("id=\"recording\">", "</script>");
        let read: Value = serde_json::from_str(&data).expect("JSON");
        assert_eq!(read["walkers"][1], "<two>");
        assert!(!page.contains("<two>"), "names are escaped");
        for (at, episode) in recording.episodes.iter().enumerate() {
            let walk = &read["episodes"][at]["walks"][1];
            assert_eq!(walk["last"], episode.walks[1].last.0);
            let steps = walk["steps"].as_array().map(Vec::len);
            assert_eq!(steps, Some(episode.walks[1].length()));
        }
        let step = &read["episodes"][0]["walks"][0]["steps"][0];
        assert_eq!(
            step["z_h"].as_str().map(str::len),
            Some(2 * recording.grid.len())
        );
        let policy = between("content=\"default", "\">");
        for text in [
            between("<style>", "</style>"),
            between("</script><script>", "</script>"),
        ] {
            assert!(policy.contains(&source(&text)), "{policy}");
        }
        for loaded in ["src=", "href=", "@import", "url("] {
            assert!(!page.contains(loaded), "{loaded}");
        }
    }
}
