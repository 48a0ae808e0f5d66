use syn::visit::{self, Visit};

use crate::{Source, files, is_test, none};

/// What is public and can fail, with what its documentation says of that.
#[derive(Default)]
struct Fallible(Vec<(String, Option<String>)>);

impl Fallible {
    fn note(
        &mut self,
        visibility: &syn::Visibility,
        attributes: &[syn::Attribute],
        signature: &syn::Signature,
    ) {
        let of_tests = attributes.iter().any(|one| one.path().is_ident("cfg"));
        if matches!(visibility, syn::Visibility::Public(_)) && can_fail(signature) && !of_tests {
            let text: Vec<String> = attributes.iter().filter_map(documented).collect();
            let errors = text.join(" ").split_once("# Errors").map(|(_, said)| said.to_owned());
            self.0.push((signature.ident.to_string(), errors));
        }
    }
}

impl<'ast> Visit<'ast> for Fallible {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.note(&item.vis, &item.attrs, &item.sig);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.note(&item.vis, &item.attrs, &item.sig);
        visit::visit_impl_item_fn(self, item);
    }
}

fn can_fail(signature: &syn::Signature) -> bool {
    let syn::ReturnType::Type(_, given) = &signature.output else { return false };
    let syn::Type::Path(path) = &**given else { return false };
    path.path.segments.last().is_some_and(|last| last.ident == "Result")
}

fn documented(attribute: &syn::Attribute) -> Option<String> {
    let syn::Meta::NameValue(named) = &attribute.meta else { return None };
    let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) = &named.value else {
        return None;
    };
    named.path.is_ident("doc").then(|| text.value())
}

/// What fails and does not say how: neither by the name of an error, nor by that of an item that does.
fn vague(file: &Source) -> Vec<String> {
    let mut found = Fallible::default();
    found.visit_file(&syn::parse_file(&file.text).expect("Rust"));
    let says = |errors: &Option<String>| {
        errors.as_ref().is_some_and(|said| said.contains("[`") || said.contains("As there"))
    };
    let silent = found.0.into_iter().filter(|(_, errors)| !says(errors));
    silent.map(|(name, _)| format!("{}: {name} does not name its errors", file.path)).collect()
}

#[test]
fn what_can_fail_names_its_errors() {
    let product = |file: &Source| file.path.ends_with(".rs") && !is_test(&file.path);
    none(&files().iter().filter(|file| product(file)).flat_map(vague).collect::<Vec<_>>());
}

#[test]
fn what_fails_without_a_word_is_found() {
    let text = "/// Reads.\npub fn read() -> Result<u8> {}\n\
                impl X {\n/// # Errors\n/// The store's.\npub async fn get(&self) -> io::Result<()> {}\n\
                /// # Errors\n/// [`StoreError`].\npub fn put() -> Result<()> {}\n\
                pub(crate) fn own() -> Result<()> {}\npub fn sure() -> u8 {}\n}\n";
    let file = Source { path: "agent/src/x.rs".to_owned(), text: text.to_owned() };
    let expected = ["read", "get"].map(|n| format!("agent/src/x.rs: {n} does not name its errors"));
    assert_eq!(vague(&file), expected);
}
