//! One table of a file, read key by key; see [`super::reader`].

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::environment::{NotText, variable};
use super::errors::Place;
use super::reader::{Asked, File, Reported};
use super::value::{Value, describe, did_you_mean, listed};

/// One table of the file: the root, a `[section]` or an `[[entry]]`.
pub(crate) struct Table<'a> {
    file: &'a File<'a>,
    /// Its path as people see it, such as `server` or `grant[2]` (counted from 1); empty for the root.
    path: String,
    /// The same without a number.
    name: &'static str,
    /// Only sections can be overridden by the environment.
    is_section: bool,
    entries: Option<&'a DeTable<'a>>,
    /// Where it begins, in bytes; none if the file has no such table.
    start: Option<usize>,
    asked: Vec<&'static str>,
}

impl<'a> Table<'a> {
    pub(super) fn root(file: &'a File<'a>, entries: &'a DeTable<'a>) -> Self {
        Self {
            file,
            path: String::new(),
            name: "",
            is_section: false,
            entries: Some(entries),
            start: None,
            asked: Vec::new(),
        }
    }

    /// The value of a key that may be missing.
    pub(crate) fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(Value<'a>) -> Result<T, String>,
    ) -> Result<Option<T>, Reported> {
        self.ask(key);
        let (place, value) = match self.overriding(key) {
            Some((variable, Ok(text))) => (Place::Variable(variable), Value::Variable(text)),
            Some((variable, Err(_))) => {
                return Err(self
                    .file
                    .note(Place::Variable(variable), self.path_of(key), "is not UTF-8".to_owned()));
            }
            None => match self.written(key) {
                Some(value) => (self.file.line(value.span().start), Value::Toml(value.get_ref())),
                None => return Ok(None),
            },
        };
        read(value)
            .map(Some)
            .map_err(|wrong| self.file.note(place, self.path_of(key), wrong))
    }

    /// The value of a key that must be there.
    pub(crate) fn required<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(Value<'a>) -> Result<T, String>,
    ) -> Result<T, Reported> {
        self.optional(key, read)?.ok_or_else(|| self.missing(key))
    }

    /// The value of a key, or the default.
    pub(crate) fn or<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(Value<'a>) -> Result<T, String>,
    ) -> Result<T, Reported> {
        Ok(self.optional(key, read)?.unwrap_or(default))
    }

    /// A list without repetitions; none if the key is missing. An empty list is a problem. In an environment variable, a comma
    /// stands between the elements.
    pub(crate) fn list<T: PartialEq>(
        &mut self,
        key: &'static str,
        read: impl Fn(Value<'a>) -> Result<T, String>,
    ) -> Result<Option<Vec<T>>, Reported> {
        self.ask(key);
        let elements: Vec<(Place, Value<'a>)> = match (self.overriding(key), self.written(key).map(Spanned::get_ref)) {
            (Some((variable, Ok(text))), _) => {
                let parts = text.split(',').map(str::trim).filter(|_| !text.is_empty());
                parts
                    .map(|part| (Place::Variable(variable.clone()), Value::Variable(part)))
                    .collect()
            }
            (Some((_, Err(_))), _) => return Err(self.wrong(key, "is not UTF-8".to_owned())),
            (None, None) => return Ok(None),
            (None, Some(DeValue::Array(elements))) => {
                let place = |element: &Spanned<DeValue<'_>>| self.file.line(element.span().start);
                elements
                    .iter()
                    .map(|element| (place(element), Value::Toml(element.get_ref())))
                    .collect()
            }
            (None, Some(other)) => {
                return Err(self.wrong(key, format!("is {}; a list in [ ] is expected", describe(other))));
            }
        };
        if elements.is_empty() {
            return Err(self.wrong(key, "is empty; at least one is needed".to_owned()));
        }
        let mut list = Vec::with_capacity(elements.len());
        let mut all_well = Ok(());
        for (place, item) in elements {
            match read(item) {
                Ok(read) if !list.contains(&read) => list.push(read),
                read => {
                    let wrong = read
                        .err()
                        .unwrap_or_else(|| format!("{} is there twice", item.written()));
                    all_well = Err(self.file.note(place, self.path_of(key), wrong));
                }
            }
        }
        all_well.map(|()| Some(list))
    }

    /// A list that must be there.
    pub(crate) fn required_list<T: PartialEq>(
        &mut self,
        key: &'static str,
        read: impl Fn(Value<'a>) -> Result<T, String>,
    ) -> Result<Vec<T>, Reported> {
        self.list(key, read)?.ok_or_else(|| self.missing(key))
    }

    /// The table `[name]`; an empty one if the file has none.
    pub(crate) fn section<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Table<'a>) -> Result<T, Reported>,
    ) -> Result<T, Reported> {
        self.asked.push(name);
        let written = self.written(name);
        let entries = match written.map(Spanned::get_ref) {
            None => None,
            Some(DeValue::Table(table)) => Some(table),
            Some(other) => {
                return Err(self.wrong(name, format!("is {}; a table is expected: [{name}]", describe(other))));
            }
        };
        let mut table = Table {
            file: self.file,
            path: name.to_owned(),
            name,
            is_section: true,
            entries,
            start: written.map(|table| table.span().start),
            asked: Vec::new(),
        };
        let read = read(&mut table);
        table.refuse_unknown_keys();
        read
    }

    /// Reads every `[[name]]`, in their order.
    pub(crate) fn entries<T>(
        &mut self,
        name: &'static str,
        mut read: impl FnMut(&mut Table<'a>) -> Result<T, Reported>,
    ) -> Result<Vec<T>, Reported> {
        self.asked.push(name);
        let expected = format!("entries are expected, each under its own [[{name}]]");
        let elements = match self.written(name).map(Spanned::get_ref) {
            None => return Ok(Vec::new()),
            Some(DeValue::Array(elements)) => elements,
            Some(other) => return Err(self.wrong(name, format!("is {}; {expected}", describe(other)))),
        };
        let mut all = Vec::with_capacity(elements.len());
        for (index, element) in elements.iter().enumerate() {
            let DeValue::Table(entries) = element.get_ref() else {
                all.push(Err(
                    self.wrong(name, format!("holds {}; {expected}", describe(element.get_ref())))
                ));
                continue;
            };
            let mut table = Table {
                file: self.file,
                path: format!("{name}[{}]", index + 1),
                name,
                is_section: false,
                entries: Some(entries),
                start: Some(element.span().start),
                asked: Vec::new(),
            };
            all.push(read(&mut table));
            table.refuse_unknown_keys();
        }
        all.into_iter().collect()
    }

    /// The line where it begins, counted from 1; 0 if the file has no such table.
    pub(crate) fn line(&self) -> usize {
        match self.start.map(|start| self.file.line(start)) {
            Some(Place::Line(line)) => line,
            _ => 0,
        }
    }

    /// Whether the key is in the file.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.written(key).is_some()
    }

    /// Notes that the value of `key` is wrong, for a reason that the value alone doesn't show.
    pub(crate) fn wrong(&self, key: &str, message: String) -> Reported {
        let overriding = self.overriding(key).map(|(variable, _)| Place::Variable(variable));
        let start = || self.written(key).map(|value| value.span().start).or(self.start);
        let in_file = || start().map_or(Place::File, |start| self.file.line(start));
        self.file
            .note(overriding.unwrap_or_else(in_file), self.path_of(key), message)
    }

    pub(crate) fn missing(&self, key: &str) -> Reported {
        self.wrong(key, "is missing; it is required".to_owned())
    }

    fn ask(&mut self, key: &'static str) {
        self.asked.push(key);
        self.file.asked.borrow_mut().insert(Asked {
            table: self.name,
            key,
            is_setting: self.is_section,
        });
    }

    fn written(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.entries?.get(key)
    }

    fn overriding(&self, key: &str) -> Option<(String, Result<&'a str, NotText>)> {
        if !self.is_section || self.file.environment.is_empty() {
            return None;
        }
        let variable = variable(self.name, key);
        let value = self.file.environment.get(&variable)?;
        Some((variable, value))
    }

    fn path_of(&self, key: &str) -> String {
        let dot = if self.path.is_empty() { "" } else { "." };
        format!("{}{dot}{key}", self.path)
    }

    pub(super) fn refuse_unknown_keys(&self) {
        for key in self.entries.into_iter().flat_map(DeTable::keys) {
            let name = key.get_ref().as_ref();
            if !self.asked.contains(&name) {
                let hint = match did_you_mean(name, self.asked.iter().copied()) {
                    none if none.is_empty() => format!("; known are {}", listed(&self.asked)),
                    hint => hint,
                };
                let place = self.file.line(key.span().start);
                self.file
                    .note(place, self.path_of(name), format!("is not a known key{hint}"));
            }
        }
    }
}
