//! Renders observations as text, for logs and episode dumps.

use super::grid::Grid;
use super::token;

/// Returns the character of a token: `.` floor, `#` wall, `D` closed moving door, `A` agent, `G` goal, and `?` for
/// unknown tiles and codes outside the vocabulary.
pub fn glyph(token: u8) -> char {
    match token {
        token::FLOOR => '.',
        token::WALL => '#',
        token::CLOSED_DOOR => 'D',
        token::AGENT => 'A',
        token::GOAL => 'G',
        _ => '?',
    }
}

/// Returns an observation as text, one line of [`glyph`]s per row, without a newline after the last.
pub fn render(tokens: &[u8], grid: Grid) -> String {
    let line = |row: &[u8]| row.iter().copied().map(glyph).collect::<String>();
    tokens
        .chunks(grid.width)
        .map(line)
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_has_its_character() {
        let tokens = [
            token::FLOOR,
            token::WALL,
            token::CLOSED_DOOR,
            token::AGENT,
            token::GOAL,
            token::UNKNOWN,
        ];
        assert_eq!(
            render(
                &tokens,
                Grid {
                    height: 2,
                    width: 3
                }
            ),
            ".#D\nAG?"
        );
        assert_eq!(glyph(200), '?');
    }
}
