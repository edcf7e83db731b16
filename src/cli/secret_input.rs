//! How secrets come in: typed twice without echo, or through standard input. Never as an argument, which every process on the
//! machine can read, nor from the environment, which children and crash reports inherit.

use std::io::{self, IsTerminal, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use secrecy::{ExposeSecret, SecretString};
use signal_hook::consts::SIGINT;
use signal_hook::flag::register_conditional_default;
use signal_hook::low_level::emulate_default_handler;
use zeroize::Zeroizing;

use super::failure::Failure;

/// The server takes no larger request.
const LARGEST_INPUT: usize = 64 * 1024;

/// Where secrets come from.
pub(crate) enum Secrets {
    /// Someone is asked for each.
    Prompt,
    /// Only the password, as it came.
    Password(SecretString),
    /// A JSON object with all fields.
    Object(Zeroizing<Vec<u8>>),
}

/// What the options say about where they come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    /// `--password-stdin`.
    pub(crate) password_stdin: bool,
    /// `--from-stdin`.
    pub(crate) from_stdin: bool,
}

impl Secrets {
    /// Reads what the options name from standard input.
    pub(crate) fn read(choice: Choice) -> Result<Self, Failure> {
        let stdin = io::stdin();
        Self::read_from(stdin.lock(), stdin.is_terminal(), choice)
    }

    fn read_from(input: impl Read, is_terminal: bool, choice: Choice) -> Result<Self, Failure> {
        let asks_stdin = choice.password_stdin || choice.from_stdin;
        match (asks_stdin, is_terminal) {
            (false, true) => Ok(Self::Prompt),
            (false, false) => Err(Failure::Usage(
                "there is no terminal to ask for the password: pipe it in with --password-stdin, or everything with \
                 --from-stdin"
                    .to_owned(),
            )),
            // What is typed there would be echoed.
            (true, true) => Err(Failure::Usage(
                "standard input is a terminal: pipe the secret in (tresor … < FILE), or leave out the option to be asked \
                 without echo"
                    .to_owned(),
            )),
            (true, false) if choice.password_stdin => password(&read_all(input)?).map(Self::Password),
            (true, false) => read_all(input).map(Self::Object),
        }
    }
}

fn read_all(input: impl Read) -> Result<Zeroizing<Vec<u8>>, Failure> {
    // Big enough from the start: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LARGEST_INPUT + 2));
    let limit = LARGEST_INPUT as u64 + 1;
    input
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|source| Failure::Input {
            what: "standard input",
            source,
        })?;
    if bytes.len() > LARGEST_INPUT {
        return Err(Failure::Usage(format!(
            "standard input holds more than {LARGEST_INPUT} bytes"
        )));
    }
    Ok(bytes)
}

/// All of the bytes but the line end that `echo` and editors put after them: a password may hold white space.
fn password(bytes: &[u8]) -> Result<SecretString, Failure> {
    let text = std::str::from_utf8(bytes).map_err(|_| Failure::Usage("the password is not UTF-8".to_owned()))?;
    let text = text
        .strip_suffix('\n')
        .map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    if text.is_empty() {
        return Err(Failure::Usage("standard input holds no password".to_owned()));
    }
    Ok(SecretString::from(text))
}

/// Asks for one secret after the other.
pub(crate) trait Ask {
    /// Shows the prompt and returns what is typed.
    fn ask(&mut self, prompt: &str) -> io::Result<String>;

    /// Asks twice, and again until both are the same.
    fn ask_twice(&mut self, what: &'static str) -> Result<SecretString, Failure> {
        let mut typed = |prompt: &str| {
            let typed = self.ask(prompt).map(SecretString::from);
            typed.map_err(|source| Failure::Input { what, source })
        };
        let mut prompt = format!("{what}: ");
        loop {
            let secret = typed(&prompt)?;
            if secret.expose_secret().is_empty() {
                return Err(Failure::Usage(format!("no {what} was typed")));
            }
            if typed(&format!("{what} again: "))?.expose_secret() == secret.expose_secret() {
                return Ok(secret);
            }
            prompt = format!("these were not the same; {what}: ");
        }
    }
}

/// The process's terminal, without echo.
pub(crate) struct Terminal;

impl Ask for Terminal {
    fn ask(&mut self, prompt: &str) -> io::Result<String> {
        let is_interruptible = is_interruptible()?;
        // At Ctrl-C rpassword raises the signal first, and gives the terminal its echo back when it returns.
        is_interruptible.store(false, Ordering::SeqCst);
        let typed = rpassword::prompt_password(prompt);
        is_interruptible.store(true, Ordering::SeqCst);
        if typed
            .as_ref()
            .is_err_and(|error| error.kind() == io::ErrorKind::Interrupted)
        {
            emulate_default_handler(SIGINT)?;
        }
        typed
    }
}

/// Whether SIGINT ends the process. It does, but while somebody is asked.
fn is_interruptible() -> io::Result<&'static AtomicBool> {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    if let Some(flag) = FLAG.get() {
        return Ok(flag);
    }
    let flag = Arc::new(AtomicBool::new(true));
    register_conditional_default(SIGINT, Arc::clone(&flag))?;
    Ok(FLAG.get_or_init(|| flag))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Types what it was given, in this order.
    pub(crate) struct Typist(pub(crate) Vec<&'static str>);

    impl Ask for Typist {
        fn ask(&mut self, _: &str) -> io::Result<String> {
            if self.0.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(self.0.remove(0).to_owned())
        }
    }

    const PASSWORD: Choice = Choice {
        password_stdin: true,
        from_stdin: false,
    };
    const NOTHING: Choice = Choice {
        password_stdin: false,
        from_stdin: false,
    };

    fn piped(input: &[u8]) -> Result<String, Failure> {
        match Secrets::read_from(input, false, PASSWORD)? {
            Secrets::Password(password) => Ok(password.expose_secret().to_owned()),
            Secrets::Prompt | Secrets::Object(_) => panic!("not a password"),
        }
    }

    #[test]
    fn a_password_is_kept_but_for_one_line_end() {
        for (input, expected) in [
            ("secret\n", "secret"),
            ("secret\r\n", "secret"),
            ("secret", "secret"),
            (" sec ret \n\n", " sec ret \n"),
            ("Pä$$wört€", "Pä$$wört€"),
        ] {
            assert_eq!(piped(input.as_bytes()).unwrap(), expected, "{input:?}");
        }
    }

    #[test]
    fn a_password_that_is_none_is_refused() {
        for bad in [&b""[..], b"\n", b"\xff\xfe", &vec![b'a'; LARGEST_INPUT + 1]] {
            assert!(piped(bad).is_err());
        }
    }

    #[test]
    fn a_terminal_is_asked_and_a_pipe_must_be_named() {
        assert!(matches!(
            Secrets::read_from(io::empty(), true, NOTHING),
            Ok(Secrets::Prompt)
        ));
        assert!(Secrets::read_from(io::empty(), false, NOTHING).is_err());
        assert!(Secrets::read_from(io::empty(), true, PASSWORD).is_err());
    }

    #[test]
    fn a_secret_is_asked_until_it_was_typed_twice() {
        let mut typist = Typist(vec!["hunter1", "hunter2", "hunter3", "hunter3"]);
        assert_eq!(typist.ask_twice("password").unwrap().expose_secret(), "hunter3");
        assert!(Typist(vec![""]).ask_twice("password").is_err());
    }
}
