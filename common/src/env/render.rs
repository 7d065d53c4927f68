//! Renders observations as text, for logs and episode dumps.

use super::{grid::Grid, tile};

/// Returns the character of a tile: `.` floor, `#` wall, `D` closed moving door, `A` agent, `G` goal, and `?` for
/// unknown tiles and codes outside the vocabulary.
pub fn glyph(tile: u8) -> char {
    match tile {
        tile::FLOOR => '.',
        tile::WALL => '#',
        tile::CLOSED_DOOR => 'D',
        tile::AGENT => 'A',
        tile::GOAL => 'G',
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
            tile::FLOOR,
            tile::WALL,
            tile::CLOSED_DOOR,
            tile::AGENT,
            tile::GOAL,
            tile::UNKNOWN,
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
