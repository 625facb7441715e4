use std::sync::Arc;

use scaivault_kms::KeyProvider;

use crate::{Code, Error, Result, limits};

/// A root key that the vault is configured with.
#[derive(Debug)]
pub(crate) struct Root {
    name: String,
    provider: Arc<dyn KeyProvider>,
}

/// Every root key that the vault is configured with, in order of preference. There is at least one.
#[derive(Debug)]
pub(crate) struct Roots(Vec<Root>);

impl Root {
    /// What the operator calls it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn provider(&self) -> &Arc<dyn KeyProvider> {
        &self.provider
    }
}

impl Roots {
    /// The first is named after the kind of its provider unless it has a name, the others as the operator calls them.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] if there are more than [`limits::ROOTS`], or if a name or a root key is there twice,
    /// or a name is not 1 to 32 of `a-z`, `0-9` and `-`.
    pub(crate) fn new(
        name: Option<String>,
        first: Arc<dyn KeyProvider>,
        further: Vec<(String, Arc<dyn KeyProvider>)>,
    ) -> Result<Self> {
        let refused = |what: String| Err(Error::new(Code::InvalidRequest, what));
        if further.len() >= limits::ROOTS {
            return refused(format!(
                "there are {} root keys; at most {} may be",
                further.len() + 1,
                limits::ROOTS
            ));
        }
        let unfit = |name: &str| {
            refused(format!("the name {name:?} of a root key is not 1 to 32 of a-z, 0-9 and hyphens"))
        };
        let kind = first.describe().provider;
        let name = name.unwrap_or_else(|| if is_name(kind) { kind } else { PRIMARY }.to_owned());
        if !is_name(&name) {
            return unfit(&name);
        }
        let mut roots = vec![Root { name, provider: first }];
        for (name, provider) in further {
            if !is_name(&name) {
                return unfit(&name);
            }
            if roots.iter().any(|root| root.name == name) {
                return refused(format!("two root keys have the name {name}"));
            }
            let new = provider.describe();
            if let Some(same) = roots.iter().find(|root| {
                let known = root.provider.describe();
                (known.provider, &known.key_id) == (new.provider, &new.key_id)
            }) {
                return refused(format!(
                    "the root keys {} and {name} are the same: {} {}",
                    same.name, new.provider, new.key_id
                ));
            }
            roots.push(Root { name, provider });
        }
        Ok(Self(roots))
    }

    /// The one that is preferred.
    pub(crate) fn first(&self) -> &Root {
        // One is there from the beginning, and none is ever taken out.
        &self.0[0]
    }

    /// The provider of the root key that the operator calls so.
    pub(crate) fn by_name(&self, name: &str) -> Option<&Arc<dyn KeyProvider>> {
        self.iter().find(|root| root.name == name).map(Root::provider)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Root> {
        self.0.iter()
    }
}

/// The first root key's name if the kind of its provider is none.
const PRIMARY: &str = "primary";

fn is_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use scaivault_kms::local::{KeyFile, LocalProvider};

    use super::*;

    fn provider() -> Arc<dyn KeyProvider> {
        Arc::new(LocalProvider::new(KeyFile::generate().unwrap()))
    }

    fn refusal(further: Vec<(&str, Arc<dyn KeyProvider>)>) -> String {
        let further = further.into_iter().map(|(name, provider)| (name.to_owned(), provider)).collect();
        Roots::new(None, provider(), further).unwrap_err().to_string()
    }

    #[test]
    fn names_are_found_and_doubles_refused_by_name() {
        let second = provider();
        let roots = Roots::new(None, provider(), vec![("backup-2".to_owned(), second.clone())]).unwrap();
        assert_eq!(roots.iter().map(Root::name).collect::<Vec<_>>(), ["local", "backup-2"]);
        assert_eq!(roots.by_name("backup-2").unwrap().describe(), second.describe());
        assert_eq!(roots.by_name("local").unwrap().describe(), roots.first().provider().describe());
        assert!(roots.by_name("aws").is_none());

        assert!(refusal(vec![("local", provider())]).contains("two root keys have the name local"));
        let twice = refusal(vec![("a", second.clone()), ("b", second)]);
        assert!(twice.contains("a and b are the same"), "{twice}");
        for name in ["", "Backup", "a b", "a/b", &"a".repeat(33)] {
            assert!(refusal(vec![(name, provider())]).contains(&format!("{name:?}")), "{name}");
        }
        let named = Roots::new(Some("main".to_owned()), provider(), vec![]).unwrap();
        assert_eq!(named.first().name(), "main");
        assert!(Roots::new(Some("Main".to_owned()), provider(), vec![]).is_err());
        let nine: Vec<String> = (0..8).map(|n| format!("r{n}")).collect();
        let nine = nine.iter().map(|name| (name.as_str(), provider())).collect();
        assert!(refusal(nine).contains("there are 9 root keys"));
    }
}
