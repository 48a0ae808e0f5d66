use syn::visit::{self, Visit};

use crate::{Source, files, is_test, none, test_lines};

/// Lines of a function, its head counted, its documentation not.
const FUNCTION_LINES: usize = 70;

/// Lines of a test: a table of cases may be longer.
const TEST_LINES: usize = 90;

/// Lines of a file of the product, its unit tests left out.
const FILE_LINES: usize = 400;

/// Lines of a file of tests.
const TEST_FILE_LINES: usize = 600;

#[derive(Default)]
struct Functions(Vec<(String, usize)>);

impl Functions {
    fn note(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let lines =
            block.brace_token.span.close().end().line - signature.fn_token.span.start().line + 1;
        self.0.push((signature.ident.to_string(), lines));
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.note(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.note(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }
}

fn functions(text: &str) -> Vec<(String, usize)> {
    let mut found = Functions::default();
    found.visit_file(&syn::parse_file(text).expect("Rust"));
    found.0
}

fn without_tests(text: &str) -> usize {
    text.lines().count() - test_lines(text).len()
}

fn too_long(file: &Source) -> Vec<String> {
    let (limit, most) = match is_test(&file.path) {
        true => (TEST_FILE_LINES, TEST_LINES),
        false => (FILE_LINES, FUNCTION_LINES),
    };
    let lines = without_tests(&file.text);
    let mut found = Vec::new();
    if lines > limit {
        found.push(format!("{} has {lines} lines, more than {limit}", file.path));
    }
    for (name, lines) in functions(&file.text) {
        if lines > most {
            found.push(format!("{}: {name} has {lines} lines", file.path));
        }
    }
    found
}

fn rust() -> Vec<Source> {
    files().into_iter().filter(|file| file.path.ends_with(".rs")).collect()
}

#[test]
fn functions_and_files_are_short() {
    let found: Vec<String> = rust().iter().flat_map(too_long).collect();
    none(&found);
}

#[test]
fn most_functions_are_very_short() {
    let mut lengths: Vec<usize> = rust()
        .iter()
        .filter(|file| !file.path.starts_with("tests/"))
        .flat_map(|file| functions(&file.text))
        .map(|(_, lines)| lines)
        .collect();
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    assert!(median <= 14, "the median function has {median} lines");
}

#[test]
fn what_is_too_long_is_found() {
    let body = "    let _ = 1;\n".repeat(69);
    let text = format!("impl X {{\nfn long() {{\n{body}}}\n}}\nfn short() {{}}\n");
    let file = Source { path: "agent/src/x.rs".into(), text };
    assert_eq!(too_long(&file), ["agent/src/x.rs: long has 71 lines"]);
    let text = "// x\n".repeat(401) + "#[cfg(test)]\nmod tests {}\n";
    let file = Source { path: "agent/src/x.rs".into(), text: text.clone() };
    assert_eq!(too_long(&file), ["agent/src/x.rs has 401 lines, more than 400"]);
    assert!(too_long(&Source { path: "tests/src/x.rs".into(), text }).is_empty());
    // A test in its middle does not end it.
    let half = "// x\n".repeat(200);
    let text = format!("{half}#[cfg(test)]\nmod tests;\n{half}mod x;\n");
    let file = Source { path: "agent/src/x.rs".into(), text };
    assert_eq!(too_long(&file), ["agent/src/x.rs has 401 lines, more than 400"]);
}
