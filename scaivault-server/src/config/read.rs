use std::{collections::BTreeMap, io, ops::RangeInclusive, path::Path, time::Duration};

use zeroize::Zeroizing;

use super::{names, value};

/// Reads variables and collects what is wrong with them.
pub(super) struct Reader<'a> {
    vars: BTreeMap<String, Zeroizing<String>>,
    file: &'a dyn Fn(&Path) -> io::Result<String>,
    problems: Vec<String>,
}

impl<'a> Reader<'a> {
    /// Keeps the variables that are ours and objects to those that only look so.
    pub(super) fn new(
        vars: impl IntoIterator<Item = (String, String)>,
        file: &'a dyn Fn(&Path) -> io::Result<String>,
    ) -> Self {
        let vars: Vec<_> = vars.into_iter().collect();
        let objections: Vec<_> = vars.iter().filter_map(|(name, _)| names::objection(name)).collect();
        let mut reader = Self::lenient(vars, file);
        reader.problems.extend(objections);
        reader
    }

    /// Keeps the variables that are ours, whatever else there is.
    pub(super) fn lenient(
        vars: impl IntoIterator<Item = (String, String)>,
        file: &'a dyn Fn(&Path) -> io::Result<String>,
    ) -> Self {
        let mut reader = Self { vars: BTreeMap::new(), file, problems: Vec::new() };
        for (name, value) in vars {
            let value = Zeroizing::new(value);
            if names::is_read(&name) {
                if value.trim().is_empty() && name == names::MAY_BE_EMPTY {
                    continue;
                }
                if value.trim().is_empty() {
                    reader.problems.push(format!("{name} is set but empty; give it a value or unset it."));
                } else {
                    reader.vars.insert(name, value);
                }
            }
        }
        reader
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.vars.get(name).map(|value| value.trim().to_owned())
    }

    pub(super) fn required(&mut self, name: &str) -> Option<String> {
        let value = self.text(name);
        if value.is_none() {
            self.missing(name, "");
        }
        value
    }

    /// A secret from its variable or from the file that `file_name` names; required.
    pub(super) fn secret(&mut self, name: &str, file_name: &str) -> Option<String> {
        match (self.text(name), self.text(file_name)) {
            (Some(_), Some(_)) => {
                self.problem(format!("{name} and {file_name} are both set; only one may be."));
                None
            }
            (Some(value), None) => Some(value),
            (None, Some(path)) => match (self.file)(Path::new(&path)) {
                Ok(text) => Some(Zeroizing::new(text).trim().to_owned()),
                Err(error) => {
                    self.problem(format!("{file_name} names a file that cannot be read: {error}."));
                    None
                }
            },
            (None, None) => {
                self.missing(name, &format!(", or {file_name}"));
                None
            }
        }
    }

    /// The same where nothing need be given.
    pub(super) fn optional_secret(&mut self, name: &str, file_name: &str) -> Option<Zeroizing<String>> {
        let given = self.vars.contains_key(name) || self.vars.contains_key(file_name);
        given.then(|| self.secret(name, file_name)).flatten().map(Zeroizing::new)
    }

    /// The content of the file that a variable names, if it is set.
    pub(super) fn file(&mut self, name: &str) -> Option<String> {
        let path = self.text(name)?;
        match (self.file)(Path::new(&path)) {
            Ok(text) => Some(text),
            Err(error) => {
                self.problem(format!("{name} names a file that cannot be read: {error}."));
                None
            }
        }
    }

    /// Makes something of a value; what is wrong becomes `NAME must be …`.
    pub(super) fn parsed<T>(
        &mut self,
        name: &str,
        value: Option<String>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match parse(&Zeroizing::new(value?)) {
            Ok(value) => Some(value),
            Err(reason) => {
                self.problem(format!("{name} {reason}."));
                None
            }
        }
    }

    pub(super) fn flag(&mut self, name: &str, default: bool) -> bool {
        let value = self.text(name);
        self.parsed(name, value, value::flag).unwrap_or(default)
    }

    pub(super) fn duration(&mut self, name: &str, default: Duration) -> Duration {
        let value = self.text(name);
        self.parsed(name, value, value::duration).unwrap_or(default)
    }

    pub(super) fn number(&mut self, name: &str, default: u32, range: RangeInclusive<u32>) -> u32 {
        let value = self.text(name);
        let parse = |text: &str| {
            let number = text.parse().ok().filter(|number| range.contains(number));
            number.ok_or_else(|| format!("must be an integer from {} to {}", range.start(), range.end()))
        };
        self.parsed(name, value, parse).unwrap_or(default)
    }

    pub(super) fn problem(&mut self, sentence: impl Into<String>) {
        self.problems.push(sentence.into());
    }

    pub(super) fn finish(self) -> Vec<String> {
        self.problems
    }

    /// A variable that was set but empty has been objected to already.
    fn missing(&mut self, name: &str, or: &str) {
        if !self.is_empty(name) {
            self.problem(format!("{name}{or} is required."));
        }
    }

    /// Whether the variable was set but empty, which has been objected to.
    pub(super) fn is_empty(&self, name: &str) -> bool {
        self.problems.iter().any(|problem| problem.starts_with(&format!("{name} is set but empty")))
    }

    /// The variables that are set.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.vars.keys().map(String::as_str)
    }
}
