use drctl_policies::{SAMPLE_POLICY, SourceFile, parse, schema};
use serde_json::Value;

use crate::markdown::{blocks, codes, rows, sections};
use crate::{pages, read};

/// The row of a key must show its default and its bounds.
fn check(section: &str, text: &str, object: &Value) {
    let rows = rows(text);
    let properties = object["properties"].as_object().expect("properties");
    let is_table = |value: &Value| value["type"] == "object";
    let keys = properties.iter().filter(|(_, value)| !is_table(value));
    let mut count = 0;
    for (key, value) in keys {
        count += 1;
        let row = rows.iter().find(|row| codes(&row[0]) == [key.as_str()]);
        let row = row.unwrap_or_else(|| panic!("{section}: `{key}` has no row"));
        let required =
            object["required"].as_array().expect("a list").contains(&Value::from(key.as_str()));
        let default = match &value["default"] {
            _ if required => "**required**".to_owned(),
            Value::Null => String::new(),
            Value::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        assert_eq!(row[2], default, "{section}: default of `{key}`");
        for bound in ["minimum", "maximum"] {
            if value.get("const").is_none() && value[bound].is_number() {
                let number = value[bound].to_string();
                assert!(
                    row[1].split(' ').any(|word| word == number),
                    "{section}: {bound} of `{key}`"
                );
            }
        }
        // Those of durations and sizes stand at the end of what the schema says: `1s to 1h.`
        let about = value["description"].as_str().unwrap_or_default().trim_end_matches('.');
        if let (Some(_), Some((from, to))) = (value.get("pattern"), about.rsplit_once(" to ")) {
            if value["pattern"] == "^/" {
                continue;
            }
            let bounds = format!("{} to {to}", from.rsplit(' ').next().unwrap_or_default());
            assert!(row[1].ends_with(&bounds), "{section}: bounds of `{key}`, {bounds}");
        }
    }
    assert_eq!(rows.len(), count, "{section}: a row for a key that there is not");
}

#[test]
fn every_key_is_documented_with_default_and_bounds() {
    let page = read("docs/configure.md");
    let sections = sections(&page);
    let text = |wanted: &str| {
        let found = sections.iter().find(|(title, _)| title == wanted);
        &found.unwrap_or_else(|| panic!("no section {wanted}")).1
    };
    let schema = schema();
    let (main, policy) = (&schema["$defs"]["drctl"], &schema["$defs"]["policy"]);
    check("The top", text("The top"), main);
    check("The top of a policy", text("The top of a policy"), policy);
    let mut tables = 0;
    for object in [main, policy] {
        for (name, value) in object["properties"].as_object().expect("properties") {
            if value["type"] != "object" {
                continue;
            }
            tables += 1;
            let inner = &value["additionalProperties"];
            match inner.is_object() {
                true => check(name, text(&format!("`[{name}.NAME]`")), inner),
                false => check(name, text(&format!("`[{name}]`")), value),
            }
            let (of, label) = match inner.is_object() {
                true => (inner, format!("{name}.NAME")),
                false => (value, name.clone()),
            };
            for (below, value) in of["properties"].as_object().into_iter().flatten() {
                // Where a table holds this or that, each of them has a section of its own already.
                if value["type"] == "object" && value["properties"].is_object() {
                    tables += 1;
                    let name = format!("{label}.{below}");
                    check(&name, text(&format!("`[{name}]`")), value);
                }
            }
        }
    }
    assert_eq!(tables, 20);
}

/// What an example of one table needs around it.
const AROUND: &str = r#"
version = 1
[keys]
recipients = [
    "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p",
    "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg",
]
verifying_keys = ["ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="]
"#;

/// The main file and the policy that an example is, or is a part of.
fn completed(example: &str) -> (String, String) {
    let policy = SAMPLE_POLICY.to_owned();
    let first = example.trim_start();
    if first.starts_with("version") {
        return (example.to_owned(), policy);
    }
    if first.starts_with("[keys]") {
        return (format!("version = 1\n{example}"), policy);
    }
    if first.starts_with("[repository]") {
        return (format!("{AROUND}{example}"), policy);
    }
    let place = "[repository]\nurl = \"file:///srv/backups\"\n";
    if ["[discover]", "[notify.", "[agent]", "[throttle.", "[hooks."]
        .iter()
        .any(|table| first.starts_with(table))
    {
        return (format!("{AROUND}{place}{example}"), policy);
    }
    if first.starts_with("[sources.") {
        let whole = match first.contains("engine = ") {
            true => "",
            false => "engine = \"pg_dump\"\npolicy = \"daily\"\n",
        };
        return (format!("{AROUND}{place}{example}{whole}"), policy);
    }
    if first.starts_with("[drill") {
        return (format!("{AROUND}{place}"), format!("{policy}\n{example}"));
    }
    (format!("{AROUND}{place}"), example.to_owned())
}

#[test]
fn every_example_of_a_configuration_is_good() {
    let mut examples = 0;
    for page in pages() {
        for block in blocks(&read(&page)).into_iter().filter(|block| block.language == "toml") {
            examples += 1;
            let (main, policy) = completed(&block.text);
            let file = |name: &str, text: String| SourceFile { name: name.to_owned(), text };
            let policies = [file("policies.d/daily.toml", policy)];
            let read = parse(&file("drctl.toml", main), &policies);
            let found: Vec<String> =
                read.err().unwrap_or_default().iter().map(ToString::to_string).collect();
            assert!(found.is_empty(), "{page}:{}: {found:#?}", block.line);
        }
    }
    assert!(examples >= 8, "{examples}");
}
