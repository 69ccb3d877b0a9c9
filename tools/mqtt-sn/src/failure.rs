//! How a command ends, in words and as an exit code.

use std::process::ExitCode;

/// Why a command did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The gateway refused: exit code 1.
    #[error("{0}")]
    Rejected(String),
    /// The command line or a file makes no sense: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Nobody answered, or not in time: exit code 3.
    #[error("{0}")]
    NoAnswer(String),
    /// A socket or file cannot be used: exit code 4.
    #[error("{0}")]
    Socket(String),
    /// What `sim` was told to expect did not come true: exit code 5.
    #[error("{0}")]
    Expectation(String),
}

impl Failure {
    /// Returns the exit code of the process, 1 to 5.
    pub fn code(&self) -> u8 {
        match self {
            Self::Rejected(_) => 1,
            Self::Usage(_) => 2,
            Self::NoAnswer(_) => 3,
            Self::Socket(_) => 4,
            Self::Expectation(_) => 5,
        }
    }
}

impl Failure {
    /// Says which of several nodes it happened to.
    #[must_use]
    pub fn of_node(self, id: &str) -> Self {
        self.reworded(|text| format!("{id}: {text}"))
    }

    /// Says it in other words; the exit code stays.
    #[must_use]
    pub fn reworded(self, words: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Rejected(text) => Self::Rejected(words(text)),
            Self::Usage(text) => Self::Usage(words(text)),
            Self::NoAnswer(text) => Self::NoAnswer(words(text)),
            Self::Socket(text) => Self::Socket(words(text)),
            Self::Expectation(text) => Self::Expectation(words(text)),
        }
    }
}

impl From<&Failure> for ExitCode {
    fn from(failure: &Failure) -> Self {
        Self::from(failure.code())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Socket(error.to_string())
    }
}
