//! The tiles that never change: walls, floor, doorways and their neighbours.

use super::{
    ACTIONS,
    config::{EnvConfig, MazeKind},
    grid::{Cell, Grid, Position},
    tile,
};

/// The published map with its outer wall; `d` is a doorway.
const FOUR_ROOMS: &str = "\
|||||||||||||
|.....|.....|
|.....|.....|
|.....d.....|
|.....|.....|
|.....|.....|
||d||||.....|
|.....|||d|||
|.....|.....|
|.....|.....|
|.....d.....|
|.....|.....|
|||||||||||||";

/// A map with every doorway open.
#[derive(Debug, Clone)]
pub(super) struct Map {
    pub grid: Grid,
    /// `[S]`: floor or wall.
    pub tiles: Vec<u8>,
    /// The possible tiles of start and goal: floor and doorways.
    pub open: Vec<Cell>,
    pub doorways: Vec<Cell>,
    /// The cell of a closed moving door.
    pub(crate) closed_door: u8,
    /// `[S]`, by action. At the edge of the map a cell is its own neighbour, so that a move there changes nothing.
    neighbours: Vec<[Cell; ACTIONS]>,
}

impl Map {
    /// Returns the map of a valid configuration.
    pub(super) fn new(config: &EnvConfig) -> Self {
        match config.maze {
            MazeKind::FourRooms => Self::parse(&without_rim(FOUR_ROOMS), tile::WALL),
            MazeKind::RandomMaze => {
                Self::parse(&lattice(config.rows, config.cols), tile::CLOSED_DOOR)
            }
        }
    }

    fn parse(text: &str, closed_door: u8) -> Self {
        let width = text.find('\n').unwrap_or(text.len());
        let mut map = Self {
            grid: Grid {
                height: text.lines().count(),
                width,
            },
            tiles: Vec::new(),
            open: Vec::new(),
            doorways: Vec::new(),
            closed_door,
            neighbours: Vec::new(),
        };
        for (cell, glyph) in (0..).zip(text.chars().filter(|&glyph| glyph != '\n')) {
            map.tiles.push(if glyph == '|' {
                tile::WALL
            } else {
                tile::FLOOR
            });
            if glyph != '|' {
                map.open.push(cell);
            }
            if glyph == 'd' {
                map.doorways.push(cell);
            }
            map.neighbours.push(neighbours(map.grid, cell));
        }
        map
    }

    /// Returns the neighbour of `cell` in the direction of `action`.
    ///
    /// # Panics
    ///
    /// Panics when the action is not below [`ACTIONS`].
    #[inline]
    pub(crate) fn neighbour(&self, cell: Cell, action: u8) -> Cell {
        self.neighbours[usize::from(cell)][usize::from(action)]
    }

    #[inline]
    pub(crate) fn neighbours(&self, cell: Cell) -> [Cell; ACTIONS] {
        self.neighbours[usize::from(cell)]
    }
}

/// Returns the neighbours in the order of the actions: north, east, south, west.
fn neighbours(grid: Grid, cell: Cell) -> [Cell; ACTIONS] {
    let Position { row, col } = grid.position(cell);
    let width = grid.width as Cell;
    [
        if row == 0 { cell } else { cell - width },
        if col + 1 == grid.width {
            cell
        } else {
            cell + 1
        },
        if row + 1 == grid.height {
            cell
        } else {
            cell + width
        },
        if col == 0 { cell } else { cell - 1 },
    ]
}

/// Returns a lattice with posts on even rows and columns, cells on odd ones, and a doorway between any two cells.
fn lattice(rows: usize, cols: usize) -> String {
    let (height, width) = (2 * rows + 1, 2 * cols + 1);
    let glyph = |row: usize, col: usize| {
        let rim = row == 0 || col == 0 || row + 1 == height || col + 1 == width;
        match (row % 2, col % 2) {
            (1, 1) => '.',
            (0, 0) => '|',
            _ if rim => '|',
            _ => 'd',
        }
    };
    let line = |row: usize| (0..width).map(|col| glyph(row, col)).collect::<String>();
    (0..height).map(line).collect::<Vec<_>>().join("\n")
}

fn without_rim(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let inner = |line: &&str| line[1..line.len() - 1].to_owned();
    lines[1..lines.len() - 1]
        .iter()
        .map(inner)
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(map: &Map) -> Vec<String> {
        let glyph = |cell: usize| {
            if map.doorways.contains(&(cell as Cell)) {
                'd'
            } else if map.tiles[cell] == tile::WALL {
                '|'
            } else {
                '.'
            }
        };
        let tiles: Vec<char> = (0..map.grid.len()).map(glyph).collect();
        tiles
            .chunks(map.grid.width)
            .map(|row| row.iter().collect())
            .collect()
    }

    #[test]
    fn four_rooms_is_the_published_map_without_its_outer_wall() {
        let map = Map::new(&EnvConfig::four_rooms());
        let published = [
            ".....|.....",
            ".....|.....",
            ".....d.....",
            ".....|.....",
            ".....|.....",
            "|d||||.....",
            ".....|||d||",
            ".....|.....",
            ".....|.....",
            ".....d.....",
            ".....|.....",
        ];
        assert_eq!(text(&map), published);
        assert_eq!(map.grid, EnvConfig::four_rooms().grid());
        assert_eq!((map.doorways.len(), map.open.len()), (4, 104));
        assert_eq!(map.closed_door, tile::WALL);
    }

    #[test]
    fn the_random_lattice_is_the_published_map() {
        let map = Map::new(&EnvConfig::random_maze());
        let published = [
            "|||||||||||||",
            "|.d.d.d.d.d.|",
            "|d|d|d|d|d|d|",
            "|.d.d.d.d.d.|",
            "|d|d|d|d|d|d|",
            "|.d.d.d.d.d.|",
            "|d|d|d|d|d|d|",
            "|.d.d.d.d.d.|",
            "|d|d|d|d|d|d|",
            "|.d.d.d.d.d.|",
            "|||||||||||||",
        ];
        assert_eq!(text(&map), published);
        assert_eq!(map.grid, EnvConfig::random_maze().grid());
        assert_eq!((map.doorways.len(), map.open.len()), (49, 30 + 49));
        assert_eq!(map.closed_door, tile::CLOSED_DOOR);
    }

    #[test]
    fn a_small_lattice_has_its_own_size() {
        let map = Map::new(&EnvConfig {
            rows: 2,
            cols: 3,
            ..EnvConfig::random_maze()
        });
        assert_eq!(
            text(&map),
            ["|||||||", "|.d.d.|", "|d|d|d|", "|.d.d.|", "|||||||"]
        );
    }

    #[test]
    fn neighbours_go_north_east_south_west_and_stop_at_the_edge() {
        let map = Map::new(&EnvConfig::four_rooms());
        assert_eq!(map.neighbours(12), [1, 13, 23, 11]);
        assert_eq!(map.neighbours(0), [0, 1, 11, 0]);
        assert_eq!(map.neighbours(120), [109, 120, 120, 119]);
        assert_eq!(map.neighbour(12, 2), 23);
    }
}
