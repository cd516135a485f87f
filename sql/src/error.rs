//! The error that a client sees: SQLSTATE, message, detail, hint, position. The only place where
//! errors of the layers below get their SQLSTATE.

use std::borrow::Cow;
use std::fmt;

/// A five-character SQLSTATE.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState(pub [u8; 5]);

impl SqlState {
    /// The code as text.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

macro_rules! states {
    ($($name:ident = $code:literal;)*) => {
        impl SqlState {
            $(#[doc = concat!("SQLSTATE ", stringify!($code))] pub const $name: Self = Self(*$code);)*
        }
    };
}

states! {
    SUCCESSFUL_COMPLETION = b"00000";
    WARNING = b"01000";
    NO_DATA = b"02000";
    CONNECTION_EXCEPTION = b"08000";
    CONNECTION_FAILURE = b"08006";
    TRANSACTION_RESOLUTION_UNKNOWN = b"08007";
    PROTOCOL_VIOLATION = b"08P01";
    FEATURE_NOT_SUPPORTED = b"0A000";
    CARDINALITY_VIOLATION = b"21000";
    DATA_EXCEPTION = b"22000";
    STRING_DATA_RIGHT_TRUNCATION = b"22001";
    NUMERIC_VALUE_OUT_OF_RANGE = b"22003";
    NULL_VALUE_NOT_ALLOWED = b"22004";
    INVALID_DATETIME_FORMAT = b"22007";
    DATETIME_FIELD_OVERFLOW = b"22008";
    INVALID_TIME_ZONE_DISPLACEMENT_VALUE = b"22009";
    SUBSTRING_ERROR = b"22011";
    DIVISION_BY_ZERO = b"22012";
    INVALID_PRECEDING_OR_FOLLOWING_SIZE = b"22013";
    INVALID_ARGUMENT_FOR_NTILE = b"22014";
    INTERVAL_FIELD_OVERFLOW = b"22015";
    INVALID_ARGUMENT_FOR_NTH_VALUE = b"22016";
    INVALID_ESCAPE_CHARACTER = b"22019";
    INVALID_ESCAPE_SEQUENCE = b"22025";
    INVALID_ARGUMENT_FOR_LOGARITHM = b"2201E";
    INVALID_ARGUMENT_FOR_POWER_FUNCTION = b"2201F";
    INVALID_ARGUMENT_FOR_WIDTH_BUCKET_FUNCTION = b"2201G";
    INVALID_REGULAR_EXPRESSION = b"2201B";
    INVALID_ROW_COUNT_IN_LIMIT_CLAUSE = b"2201W";
    INVALID_ROW_COUNT_IN_RESULT_OFFSET_CLAUSE = b"2201X";
    CHARACTER_NOT_IN_REPERTOIRE = b"22021";
    INVALID_PARAMETER_VALUE = b"22023";
    UNTERMINATED_C_STRING = b"22024";
    ARRAY_SUBSCRIPT_ERROR = b"2202E";
    INVALID_TEXT_REPRESENTATION = b"22P02";
    INVALID_BINARY_REPRESENTATION = b"22P03";
    BAD_COPY_FILE_FORMAT = b"22P04";
    UNTRANSLATABLE_CHARACTER = b"22P05";
    SEQUENCE_GENERATOR_LIMIT_EXCEEDED = b"2200H";
    INVALID_JSON_TEXT = b"22032";
    INTEGRITY_CONSTRAINT_VIOLATION = b"23000";
    NOT_NULL_VIOLATION = b"23502";
    FOREIGN_KEY_VIOLATION = b"23503";
    UNIQUE_VIOLATION = b"23505";
    CHECK_VIOLATION = b"23514";
    INVALID_CURSOR_STATE = b"24000";
    INVALID_TRANSACTION_STATE = b"25000";
    ACTIVE_SQL_TRANSACTION = b"25001";
    READ_ONLY_SQL_TRANSACTION = b"25006";
    NO_ACTIVE_SQL_TRANSACTION = b"25P01";
    IN_FAILED_SQL_TRANSACTION = b"25P02";
    IDLE_IN_TRANSACTION_SESSION_TIMEOUT = b"25P03";
    INVALID_SQL_STATEMENT_NAME = b"26000";
    INVALID_AUTHORIZATION_SPECIFICATION = b"28000";
    INVALID_PASSWORD = b"28P01";
    DEPENDENT_OBJECTS_STILL_EXIST = b"2BP01";
    INVALID_TRANSACTION_TERMINATION = b"2D000";
    INVALID_CURSOR_NAME = b"34000";
    INVALID_SAVEPOINT_SPECIFICATION = b"3B001";
    INVALID_CATALOG_NAME = b"3D000";
    INVALID_SCHEMA_NAME = b"3F000";
    SERIALIZATION_FAILURE = b"40001";
    STATEMENT_COMPLETION_UNKNOWN = b"40003";
    DEADLOCK_DETECTED = b"40P01";
    SYNTAX_ERROR = b"42601";
    INSUFFICIENT_PRIVILEGE = b"42501";
    NAME_TOO_LONG = b"42622";
    RESERVED_NAME = b"42939";
    DUPLICATE_COLUMN = b"42701";
    AMBIGUOUS_COLUMN = b"42702";
    UNDEFINED_COLUMN = b"42703";
    UNDEFINED_OBJECT = b"42704";
    DUPLICATE_OBJECT = b"42710";
    DUPLICATE_ALIAS = b"42712";
    DUPLICATE_FUNCTION = b"42723";
    AMBIGUOUS_FUNCTION = b"42725";
    GROUPING_ERROR = b"42803";
    DATATYPE_MISMATCH = b"42804";
    WRONG_OBJECT_TYPE = b"42809";
    INVALID_FOREIGN_KEY = b"42830";
    CANNOT_COERCE = b"42846";
    UNDEFINED_FUNCTION = b"42883";
    GENERATED_ALWAYS = b"428C9";
    UNDEFINED_TABLE = b"42P01";
    UNDEFINED_PARAMETER = b"42P02";
    DUPLICATE_CURSOR = b"42P03";
    DUPLICATE_DATABASE = b"42P04";
    DUPLICATE_PREPARED_STATEMENT = b"42P05";
    DUPLICATE_SCHEMA = b"42P06";
    DUPLICATE_TABLE = b"42P07";
    AMBIGUOUS_PARAMETER = b"42P08";
    AMBIGUOUS_ALIAS = b"42P09";
    INVALID_COLUMN_REFERENCE = b"42P10";
    INVALID_TABLE_DEFINITION = b"42P16";
    INVALID_OBJECT_DEFINITION = b"42P17";
    INDETERMINATE_DATATYPE = b"42P18";
    INVALID_RECURSION = b"42P19";
    WINDOWING_ERROR = b"42P20";
    INDETERMINATE_COLLATION = b"42P22";
    INSUFFICIENT_RESOURCES = b"53000";
    DISK_FULL = b"53100";
    OUT_OF_MEMORY = b"53200";
    TOO_MANY_CONNECTIONS = b"53300";
    PROGRAM_LIMIT_EXCEEDED = b"54000";
    STATEMENT_TOO_COMPLEX = b"54001";
    TOO_MANY_COLUMNS = b"54011";
    TOO_MANY_ARGUMENTS = b"54023";
    OBJECT_NOT_IN_PREREQUISITE_STATE = b"55000";
    OBJECT_IN_USE = b"55006";
    CANT_CHANGE_RUNTIME_PARAM = b"55P02";
    LOCK_NOT_AVAILABLE = b"55P03";
    QUERY_CANCELED = b"57014";
    ADMIN_SHUTDOWN = b"57P01";
    CANNOT_CONNECT_NOW = b"57P03";
    IO_ERROR = b"58030";
    INTERNAL_ERROR = b"XX000";
    DATA_CORRUPTED = b"XX001";
}

/// How serious a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// The statement failed.
    Error,
    /// The session ends.
    Fatal,
    /// A warning; the statement goes on.
    Warning,
    /// Information; the statement goes on.
    Notice,
}

/// An error (or notice) with all the fields that PostgreSQL's protocol has for it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct SqlError(pub Box<Fields>);

/// The fields of a [`SqlError`].
#[derive(Clone, Debug)]
pub struct Fields {
    /// How serious.
    pub severity: Severity,
    /// The SQLSTATE.
    pub state: SqlState,
    /// Lower case, no full stop.
    pub message: Cow<'static, str>,
    /// A sentence with the particulars.
    pub detail: Option<String>,
    /// A sentence on what to do.
    pub hint: Option<String>,
    /// Character position in the statement, from 1.
    pub position: Option<usize>,
    /// Schema of the object concerned.
    pub schema: Option<String>,
    /// Table concerned.
    pub table: Option<String>,
    /// Column concerned.
    pub column: Option<String>,
    /// Type concerned.
    pub data_type: Option<String>,
    /// Constraint concerned.
    pub constraint: Option<String>,
    /// Where it happened ("COPY t, line 3, column a: ...").
    pub context: Option<String>,
}

impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::ops::Deref for SqlError {
    type Target = Fields;
    fn deref(&self) -> &Fields {
        &self.0
    }
}

impl SqlError {
    /// An error with a state and a message.
    pub fn new(state: SqlState, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Fields {
            severity: Severity::Error,
            state,
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
            schema: None,
            table: None,
            column: None,
            data_type: None,
            constraint: None,
            context: None,
        }))
    }

    /// A notice or warning.
    pub fn notice(
        severity: Severity,
        state: SqlState,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        let mut e = Self::new(state, message);
        e.0.severity = severity;
        e
    }

    /// `0A000`: something that PostgreSQL has and we have not.
    pub fn unsupported(what: impl fmt::Display) -> Self {
        Self::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!("{what} is not supported"),
        )
    }

    /// `XX000`: an invariant of ours does not hold; says so instead of ending the process.
    pub fn internal(what: impl fmt::Display) -> Self {
        Self::new(SqlState::INTERNAL_ERROR, format!("internal error: {what}"))
    }

    /// Adds a detail.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Adds a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds a position (characters from 1) unless there is one already.
    #[must_use]
    pub fn at(mut self, position: usize) -> Self {
        if self.0.position.is_none() && position > 0 {
            self.0.position = Some(position);
        }
        self
    }

    /// Adds a context line.
    #[must_use]
    pub fn with_context(mut self, context: impl Into<String>) -> Self {
        self.0.context = Some(context.into());
        self
    }

    /// Names the constraint and table that were violated.
    #[must_use]
    pub fn with_constraint(
        mut self,
        schema: impl Into<String>,
        table: impl Into<String>,
        constraint: impl Into<String>,
    ) -> Self {
        self.0.schema = Some(schema.into());
        self.0.table = Some(table.into());
        self.0.constraint = Some(constraint.into());
        self
    }
}

impl From<pontoon_kv::Error> for SqlError {
    fn from(e: pontoon_kv::Error) -> Self {
        use pontoon_kv::Error as Kv;
        let state = match &e {
            Kv::Conflict { .. } => SqlState::SERIALIZATION_FAILURE,
            Kv::Deadlock { .. } => SqlState::DEADLOCK_DETECTED,
            Kv::LockNotAvailable => SqlState::LOCK_NOT_AVAILABLE,
            Kv::Ambiguous => SqlState::TRANSACTION_RESOLUTION_UNKNOWN,
            Kv::Finished => SqlState::INVALID_TRANSACTION_STATE,
            Kv::Unavailable { .. } => SqlState::CANNOT_CONNECT_NOW,
            Kv::TooLarge { .. } => SqlState::OUT_OF_MEMORY,
            Kv::HistoryGone { .. } => SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            Kv::NoRoom { .. } | Kv::DiskFull => SqlState::DISK_FULL,
            Kv::Storage { .. } | Kv::NotAdmitted { .. } => SqlState::IO_ERROR,
            Kv::Cancelled => SqlState::QUERY_CANCELED,
        };
        let error = Self::new(state, e.to_string());
        match e {
            Kv::Deadlock { detail } => error
                .with_detail(detail)
                .with_hint("See server log for query details."),
            Kv::Conflict { .. } => error.with_hint("The transaction might succeed if retried."),
            Kv::NoRoom {
                needed_bytes,
                free_bytes,
                floor_bytes,
            } => error
                .with_detail(format!(
                    "{free_bytes} bytes are free on the disk, of which {floor_bytes} are kept \
                     free; the commit may take {needed_bytes}."
                ))
                .with_hint(
                    "Make room on the disk of the data directory; writes are accepted again \
                     within seconds. Reads go on.",
                ),
            Kv::TooLarge { .. } => error.with_hint("Split the work into several transactions."),
            _ => error,
        }
    }
}
