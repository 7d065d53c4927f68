//! `docs/reference/` says what the programs say: their `--help`, and the keys with their defaults. `docs/commands.md`
//! has one row for each of their subcommands, and one for each target of the Makefile.
//!
//! `UPDATE_REFERENCE=1 cargo test -p hrm-learner --test program reference` writes the files.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use test_support::{command, program};

const PROGRAMS: [&str; 2] = ["hrm-learner", "hrm-actor"];

/// The files with the structs of the sections.
const SECTIONS: [&str; 4] = [
    "common/src/config",
    "common/src/env/config.rs",
    "common/src/env/curriculum.rs",
    "common/src/model/config.rs",
];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The standard output of a program that succeeds.
fn printed(name: &str, arguments: &[&str]) -> String {
    let output = command(program(name)).args(arguments).output();
    let output = output.expect("a process");
    assert!(output.status.success(), "{name} {arguments:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let lines = text.lines().map(str::trim_end);
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// Holds a file of `docs/reference/` to its content, or writes it.
fn hold(name: &str, content: &str) {
    let path = repository().join("docs/reference").join(name);
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, content).expect("a file");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == content,
        "docs/reference/{name} is not what the programs say; write it with \
         UPDATE_REFERENCE=1 cargo test -p hrm-learner --test program reference"
    );
}

/// The subcommands that a `--help` lists.
fn subcommands(help: &str) -> Vec<&str> {
    let listed = help.split("\nCommands:\n").nth(1).unwrap_or_default();
    let lines = listed.lines().take_while(|line| !line.is_empty());
    let names = lines.filter(|line| !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").collect()
}

#[test]
fn every_command_is_in_the_reference() {
    let mut text = "# Command reference\n\n\
        The `--help` of both programs and of their subcommands. A test holds this page to it.\n"
        .to_owned();
    for name in PROGRAMS {
        let help = printed(name, &["--help"]);
        text += &format!("\n## {name}\n\n```text\n{help}\n```\n");
        let names = subcommands(&help);
        assert!(names.contains(&"config"), "{names:?}");
        for subcommand in names {
            let help = printed(name, &[subcommand, "--help"]);
            text += &format!("\n### {name} {subcommand}\n\n```text\n{help}\n```\n");
        }
    }
    hold("commands.md", &text);
}

/// The commands in the first column of the table below a heading of `docs/commands.md`: the first two words of each.
fn rows(heading: &str) -> Vec<String> {
    let page = fs::read_to_string(repository().join("docs/commands.md")).expect("a page");
    let table = page.split(heading).nth(1).expect(heading);
    let table = table.split("\n## ").next().unwrap_or(table);
    let cells = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    let mut found: Vec<String> = cells
        .flat_map(|cell| cell.split(", `"))
        .map(|command| {
            let words = command.trim_end_matches('`').split_whitespace();
            words.take(2).collect::<Vec<_>>().join(" ")
        })
        .collect();
    found.sort();
    found
}

#[test]
fn every_subcommand_has_one_row_in_the_page_of_commands() {
    let mut expected = Vec::new();
    for name in PROGRAMS {
        let help = printed(name, &["--help"]);
        let names = subcommands(&help).into_iter();
        expected.extend(names.map(|subcommand| format!("{name} {subcommand}")));
    }
    expected.sort();
    assert_eq!(rows("\n## Subcommands\n"), expected);
}

#[test]
fn every_target_has_one_row_in_the_page_of_commands() {
    let makefile = fs::read_to_string(repository().join("Makefile")).expect("a file");
    let targets = makefile
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()) && line.contains(" ## "))
        .filter_map(|line| line.split_once(':'));
    let mut expected: Vec<String> = targets
        .map(|(target, _)| format!("make {target}"))
        .filter(|command| command != "make help")
        .collect();
    expected.sort();
    assert_eq!(rows("\n## Make targets\n"), expected);
}

/// The sources with the structs of the sections.
fn sources() -> String {
    let mut text = String::new();
    for place in SECTIONS {
        let place = repository().join(place);
        let files: Vec<PathBuf> = match place.is_dir() {
            true => fs::read_dir(&place)
                .expect("a folder")
                .map(|entry| entry.expect("an entry").path())
                .filter(|path| path.extension().is_some_and(|end| end == "rs"))
                .collect(),
            false => vec![place],
        };
        for file in files {
            text += &fs::read_to_string(file).expect("a file");
        }
    }
    text
}

/// The fields of a struct, with their types and their documentation in one line.
fn fields(sources: &str, name: &str) -> BTreeMap<String, (String, String)> {
    let start = format!("pub struct {name} {{\n");
    let body = sources.split(&start).nth(1).expect(name);
    let body = body.split("\n}\n").next().expect("its end");
    let (mut found, mut documentation) = (BTreeMap::new(), Vec::new());
    for line in body.lines().map(str::trim) {
        if let Some(said) = line.strip_prefix("///") {
            documentation.push(said.trim());
        } else if let Some((field, kind)) =
            line.strip_prefix("pub ").and_then(|l| l.split_once(": "))
        {
            let kind = kind.trim_end_matches(',').to_owned();
            let said = documentation.join(" ").replace('|', "\\|");
            found.insert(field.to_owned(), (kind, said));
            documentation.clear();
        }
    }
    found
}

/// The values of an enum as they are written in a file, or nothing where the type is no enum.
fn values(sources: &str, kind: &str) -> String {
    let start = format!("pub enum {kind} {{\n");
    let Some(body) = sources.split(&start).nth(1) else {
        return String::new();
    };
    let body = body.split("\n}\n").next().expect("its end");
    let lines = body.lines().map(|line| line.trim().trim_end_matches(','));
    let variants: Vec<&str> = lines
        .filter(|line| line.starts_with(char::is_alphabetic))
        .collect();
    let (names, others): (Vec<&str>, Vec<&str>) = variants
        .into_iter()
        .partition(|line| line.chars().all(char::is_alphanumeric));
    if !others.is_empty() {
        // Its values are not all words.
        return String::new();
    }
    let kebab = |name: &str| {
        let mut text = String::new();
        for letter in name.chars() {
            if letter.is_uppercase() && !text.is_empty() {
                text.push('-');
            }
            text.extend(letter.to_lowercase());
        }
        format!("`\"{text}\"`")
    };
    format!(
        " Values: {}.",
        names.into_iter().map(kebab).collect::<Vec<_>>().join(", ")
    )
}

#[test]
fn every_key_is_in_the_reference() {
    let sources = sources();
    let sections = fields(&sources, "Config");
    let mut text = "# Configuration reference\n\n\
        Every key, with its default and its meaning. `hrm-learner config --print` shows the values in force. A test holds \
        this page to the programs. [Configuration](../configuration.md) says where values come from.\n"
        .to_owned();
    let printed = printed("hrm-learner", &["config", "--print"]);
    let mut of_section = BTreeMap::new();
    for line in printed.lines() {
        if let Some(section) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            let (name, said) = &sections[section];
            of_section = fields(&sources, name);
            text +=
                &format!("\n## [{section}]\n\n{said}\n\n| key | default | meaning |\n|-|-|-|\n");
        } else if let Some((key, rest)) = line.split_once(" = ") {
            let default = rest.split("  #").next().unwrap_or(rest).trim();
            let (kind, said) = match key {
                "preset" => &sections["preset"],
                key => of_section.get(key).unwrap_or_else(|| panic!("{key}")),
            };
            assert!(!said.is_empty(), "{key} has no documentation");
            let values = values(&sources, kind);
            text += &format!("| `{key}` | `{default}` | {said}{values} |\n");
        }
    }
    hold("configuration.md", &text);
}
