//! What is for good is named twice: on a terminal by typing it again, elsewhere with `--confirm`.

use std::io::{self, BufRead, IsTerminal, Write};

use super::failure::Failure;

/// What is to be confirmed.
pub(crate) struct Question<'a> {
    /// What is named: it must be named again.
    pub(crate) name: &'a str,
    /// What it does to it, as a sentence.
    pub(crate) warning: String,
    /// What was not done, if it is not confirmed, such as `nothing was purged`.
    pub(crate) otherwise: &'static str,
}

impl Question<'_> {
    /// Refuses unless the name was given again; asks for it if it was not given at all.
    pub(crate) fn confirm(&self, given: Option<String>) -> Result<(), Failure> {
        let given = match given {
            Some(given) => given,
            None => self.ask(io::stdin().is_terminal(), &mut io::stdin().lock(), &mut io::stderr())?,
        };
        if given.trim() == self.name {
            return Ok(());
        }
        let Self { name, otherwise, .. } = self;
        Err(Failure::Usage(format!("{otherwise}: the confirmation is not {name}")))
    }

    fn ask(&self, is_terminal: bool, input: &mut impl BufRead, prompts: &mut impl Write) -> Result<String, Failure> {
        let Self {
            name,
            warning,
            otherwise,
        } = self;
        if !is_terminal {
            return Err(Failure::Usage(format!(
                "{otherwise}: there is no terminal to ask on; give --confirm {name}"
            )));
        }
        let terminal = |source| Failure::Input {
            what: "the confirmation",
            source,
        };
        write!(prompts, "{warning} Type {name} to go on: ").map_err(terminal)?;
        prompts.flush().map_err(terminal)?;
        let mut typed = String::new();
        input.read_line(&mut typed).map_err(terminal)?;
        Ok(typed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: Question<'static> = Question {
        name: "demo/dat/general",
        warning: String::new(),
        otherwise: "nothing was purged",
    };

    #[test]
    fn the_name_is_asked_for_only_on_a_terminal() {
        let mut prompts = Vec::new();
        let typed = QUESTION
            .ask(true, &mut &b"demo/dat/general\n"[..], &mut prompts)
            .unwrap();
        assert_eq!(typed.trim(), "demo/dat/general");
        assert!(String::from_utf8(prompts).unwrap().contains("demo/dat/general"));

        let failure = QUESTION.ask(false, &mut &b""[..], &mut Vec::new()).unwrap_err();
        assert!(failure.to_string().ends_with("--confirm demo/dat/general"), "{failure}");
    }

    #[test]
    fn another_name_confirms_nothing() {
        assert!(QUESTION.confirm(Some(" demo/dat/general\n".into())).is_ok());
        let failure = QUESTION.confirm(Some("demo/dat".into())).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "nothing was purged: the confirmation is not demo/dat/general"
        );
    }
}
