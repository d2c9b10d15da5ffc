//! The C interface of libchdb 26.7, loaded at run time; the only file of this crate with unsafe code.
//!
//! Signatures are those of the engine's `programs/local/chdb.h` at that version (the package ships no header).
//! What the rest relies on: one statement at a time per connection (here: `&mut Connection`), results own their
//! bytes and may outlive the connection, the library is never unloaded (the engine has threads of its own).
#![expect(unsafe_code, reason = "the engine is a C library; every call is wrapped here")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr::{self, NonNull};

use libloading::{Library, Symbol};

/// Opaque result handle.
#[repr(C)]
struct RawResult {
    _opaque: [u8; 0],
}

/// Opaque state behind a connection handle.
#[repr(C)]
struct RawConnectionState {
    _opaque: [u8; 0],
}

/// `chdb_connection`: a pointer to the engine's state of one session.
type RawConnection = *mut RawConnectionState;

/// Opaque insert stream.
#[repr(C)]
struct RawInsertStream {
    _opaque: [u8; 0],
}

/// `chdb_query_analysis_v1`; the engine fills what `struct_size` leaves room for.
#[repr(C)]
struct RawAnalysis {
    struct_size: u32,
    statement_count: u32,
    flags: u32,
    query_class: u32,
}

type WithParams<T> = unsafe extern "C" fn(
    RawConnection,
    *const c_char,
    usize,
    *const c_char,
    usize,
    *const *const c_char,
    *const usize,
    *const *const c_char,
    *const usize,
    usize,
) -> *mut T;

/// Declares the table of functions and its loader from one list.
macro_rules! api {
    ($($name:ident: $kind:ty,)+) => {
        /// The engine's functions; made once, valid for the process.
        struct Functions { $($name: $kind,)+ }

        impl Functions {
            /// # Safety
            /// `library` must be a libchdb whose functions have the signatures above.
            unsafe fn load(library: &'static Library) -> Result<Self, LoadError> {
                $(
                    // SAFETY: the caller vouches for the signatures; the library is never unloaded.
                    let $name: Symbol<'static, $kind> = unsafe { library.get(concat!(stringify!($name), "\0").as_bytes()) }
                        .map_err(|_| LoadError::MissingFunction { name: stringify!($name) })?;
                )+
                Ok(Self { $($name: *$name,)+ })
            }
        }
    };
}

api! {
    chdb_version: unsafe extern "C" fn() -> *const c_char,
    chdb_set_signal_handlers_enabled: unsafe extern "C" fn(c_int),
    chdb_connect: unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut RawConnection,
    chdb_close_conn: unsafe extern "C" fn(*mut RawConnection),
    chdb_query_with_params_n: WithParams<RawResult>,
    chdb_stream_query_with_params_n: WithParams<RawResult>,
    chdb_stream_fetch_result: unsafe extern "C" fn(RawConnection, *mut RawResult) -> *mut RawResult,
    chdb_stream_cancel_query: unsafe extern "C" fn(RawConnection, *mut RawResult),
    chdb_destroy_query_result: unsafe extern "C" fn(*mut RawResult),
    chdb_stream_insert_with_params_n: WithParams<RawInsertStream>,
    chdb_stream_append: unsafe extern "C" fn(*mut RawInsertStream, *const c_void, usize) -> c_int,
    chdb_stream_done: unsafe extern "C" fn(*mut RawInsertStream) -> *mut RawResult,
    chdb_stream_insert_error: unsafe extern "C" fn(*mut RawInsertStream) -> *const c_char,
    chdb_destroy_insert_stream: unsafe extern "C" fn(*mut RawInsertStream),
    chdb_result_buffer: unsafe extern "C" fn(*mut RawResult) -> *const c_char,
    chdb_result_length: unsafe extern "C" fn(*mut RawResult) -> usize,
    chdb_result_error: unsafe extern "C" fn(*mut RawResult) -> *const c_char,
    chdb_result_storage_rows_read: unsafe extern "C" fn(*mut RawResult) -> u64,
    chdb_result_storage_bytes_read: unsafe extern "C" fn(*mut RawResult) -> u64,
    chdb_result_rows_written: unsafe extern "C" fn(*mut RawResult) -> u64,
    chdb_result_bytes_written: unsafe extern "C" fn(*mut RawResult) -> u64,
    chdb_classify_query_n: unsafe extern "C" fn(RawConnection, *const c_char, usize, *const c_char, usize, *mut RawAnalysis) -> c_int,
}

/// Why the library cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is not there or is not a library for this machine.
    #[error("cannot load the engine: {reason}")]
    Open {
        /// The dynamic loader's words, which name the file.
        reason: String,
    },
    /// A function is missing: not a libchdb of 26.7 or later.
    #[error("the engine lacks {name}: not a libchdb of version {REQUIRED_VERSION}")]
    MissingFunction {
        /// Name of the C function.
        name: &'static str,
    },
    /// Another version: its crash behaviour is not the one that the repair mends.
    #[error(
        "the engine is version {found}; {REQUIRED_VERSION} is needed, whose crash behaviour the repair knows"
    )]
    Version {
        /// What the library says it is.
        found: String,
    },
}

/// The one engine version whose order of log record and part rename is known (measured); see `repair`.
pub const REQUIRED_VERSION: &str = "26.7.3";

/// The loaded engine library; cheap to copy.
#[derive(Clone, Copy)]
pub struct Api(&'static Functions);

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Api(libchdb)")
    }
}

impl Api {
    /// Loads the library, checks its version, and leaves the process's signal handlers alone.
    ///
    /// # Errors
    /// [`LoadError`] names what is wrong with the file.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        // SAFETY: running the library's initialisers is what loading it means; the path is the operator's.
        let library = unsafe { Library::new(path) }.map_err(|error| LoadError::Open {
            reason: error.to_string(),
        })?;
        let library: &'static Library = Box::leak(Box::new(library));
        // SAFETY: the version check below rejects other versions before any other function is called.
        let functions = unsafe { Functions::load(library) }?;
        let api = Self(Box::leak(Box::new(functions)));
        let found = api.version();
        if found != REQUIRED_VERSION {
            return Err(LoadError::Version { found });
        }
        // SAFETY: takes an int; must come before the first connection, and does.
        unsafe { (api.0.chdb_set_signal_handlers_enabled)(0) };
        Ok(api)
    }

    /// `chdb_version()`, for example `26.7.3`.
    pub fn version(self) -> String {
        // SAFETY: returns a static NUL-terminated string or NULL.
        unsafe { text((self.0.chdb_version)()) }.unwrap_or_default()
    }
}

/// Copies a C string.
///
/// # Safety
/// `pointer` is NULL or a NUL-terminated string that lives for the call.
unsafe fn text(pointer: *const c_char) -> Option<String> {
    // SAFETY: the caller's promise.
    (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned())
}

/// Values for `{name:Type}` placeholders, in the engine's TSV escaping.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters(pub Vec<(String, Vec<u8>)>);

/// What the engine's parser says about a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Analysis {
    /// Statements in the text; 0 when it does not parse.
    pub n_statements: u32,
    /// What kind of statement it is.
    pub class: QueryClass,
}

/// The engine's classes of statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryClass {
    /// SELECT, SHOW, DESCRIBE, EXPLAIN, EXISTS, CHECK.
    ReadOnly,
    /// Changes data or objects of databases.
    Mutating,
    /// Changes objects outside databases (functions, users).
    MutatingGlobal,
    /// SET, USE, SYSTEM, KILL, BACKUP, INTO OUTFILE and the like.
    Control,
    /// Does not parse.
    Unknown,
}

/// Rows and bytes that a statement read from storage and wrote, dependent views included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Rows read from tables.
    pub read_rows: u64,
    /// Bytes read from tables.
    pub read_bytes: u64,
    /// Rows written, those of materialized views included.
    pub written_rows: u64,
    /// Bytes written.
    pub written_bytes: u64,
}

/// One session in the engine. Closing the last one stops the engine.
pub struct Connection {
    api: Api,
    handle: NonNull<RawConnection>,
}

// SAFETY: the engine's connections may be used from any thread, one call at a time, which `&mut self` ensures.
unsafe impl Send for Connection {}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: the handle came from chdb_connect and is closed once, here.
        unsafe { (self.api.0.chdb_close_conn)(self.handle.as_ptr()) };
    }
}

impl Connection {
    /// Opens a session; the first one boots the engine on `--path`. None on any failure: the engine gives its
    /// reason on standard error only.
    pub fn open(api: Api, arguments: &[CString]) -> Option<Self> {
        let mut argv: Vec<*mut c_char> = arguments.iter().map(|a| a.as_ptr().cast_mut()).collect();
        let argc = c_int::try_from(argv.len()).ok()?;
        argv.push(ptr::null_mut());
        // SAFETY: argc strings, NUL-terminated, alive for the call; the engine copies what it keeps.
        let handle = NonNull::new(unsafe { (api.0.chdb_connect)(argc, argv.as_mut_ptr()) })?;
        Some(Self { api, handle })
    }

    fn raw(&self) -> RawConnection {
        // SAFETY: chdb_connect gave a pointer to a handle that lives until chdb_close_conn.
        unsafe { *self.handle.as_ptr() }
    }

    /// Runs one of the `_with_params_n` functions.
    fn call<T>(
        &mut self,
        function: WithParams<T>,
        sql: &[u8],
        format: &str,
        parameters: &Parameters,
    ) -> *mut T {
        let names: Vec<*const c_char> = parameters.0.iter().map(|(n, _)| n.as_ptr().cast()).collect();
        let name_lens: Vec<usize> = parameters.0.iter().map(|(n, _)| n.len()).collect();
        let values: Vec<*const c_char> = parameters.0.iter().map(|(_, v)| v.as_ptr().cast()).collect();
        let value_lens: Vec<usize> = parameters.0.iter().map(|(_, v)| v.len()).collect();
        // SAFETY: every pointer is valid for its length during the call; the engine copies what it keeps.
        unsafe {
            function(
                self.raw(),
                sql.as_ptr().cast(),
                sql.len(),
                format.as_ptr().cast(),
                format.len(),
                names.as_ptr(),
                name_lens.as_ptr(),
                values.as_ptr(),
                value_lens.as_ptr(),
                names.len(),
            )
        }
    }

    /// Runs a statement to its end and returns the whole output.
    ///
    /// # Errors
    /// The engine's error text.
    pub fn query(&mut self, sql: &[u8], format: &str, parameters: &Parameters) -> Result<Output, String> {
        let raw = self.call(self.api.0.chdb_query_with_params_n, sql, format, parameters);
        Output::from_raw(self.api, raw)
    }

    /// Starts a SELECT whose output is fetched in chunks.
    ///
    /// # Errors
    /// The engine's error text; many errors come with the first fetch only.
    pub fn stream(
        &mut self,
        sql: &[u8],
        format: &str,
        parameters: &Parameters,
    ) -> Result<SelectStream<'_>, String> {
        let raw = self.call(
            self.api.0.chdb_stream_query_with_params_n,
            sql,
            format,
            parameters,
        );
        let handle = Output::from_raw(self.api, raw)?;
        Ok(SelectStream {
            connection: self,
            handle,
            finished: false,
        })
    }

    /// Starts an INSERT (without FORMAT clause) whose data is appended in chunks.
    ///
    /// # Errors
    /// The engine's error text (unknown table, column or format): nothing was written.
    pub fn insert(
        &mut self,
        sql: &[u8],
        format: &str,
        parameters: &Parameters,
    ) -> Result<InsertStream<'_>, String> {
        let raw = self.call(
            self.api.0.chdb_stream_insert_with_params_n,
            sql,
            format,
            parameters,
        );
        let handle = NonNull::new(raw).ok_or_else(|| "the engine gave no insert stream".to_owned())?;
        let stream = InsertStream {
            connection: self,
            handle,
        };
        match stream.error() {
            Some(error) => Err(error),
            None => Ok(stream),
        }
    }

    /// Asks the engine's parser what a text is.
    ///
    /// # Errors
    /// When the engine could not be asked at all.
    ///
    /// # Panics
    /// Never: the size of the answer is a small constant.
    pub fn classify(&mut self, sql: &[u8]) -> Result<Analysis, String> {
        let size = u32::try_from(size_of::<RawAnalysis>()).expect("sixteen bytes");
        let mut raw = RawAnalysis {
            struct_size: size,
            statement_count: 0,
            flags: 0,
            query_class: 4,
        };
        // SAFETY: sql is valid for its length; no target database; raw has the size it says.
        let state = unsafe {
            (self.api.0.chdb_classify_query_n)(
                self.raw(),
                sql.as_ptr().cast(),
                sql.len(),
                ptr::null(),
                0,
                &raw mut raw,
            )
        };
        if state != 0 {
            return Err("the engine could not classify the statement".to_owned());
        }
        let class = match raw.query_class {
            0 => QueryClass::ReadOnly,
            1 => QueryClass::Mutating,
            2 => QueryClass::MutatingGlobal,
            3 => QueryClass::Control,
            _ => QueryClass::Unknown,
        };
        Ok(Analysis {
            n_statements: raw.statement_count,
            class,
        })
    }
}

/// Output of a statement: bytes in the engine's memory, freed on drop. Outlives its connection.
pub struct Output {
    api: Api,
    raw: NonNull<RawResult>,
}

// SAFETY: a result is plain memory of the engine without thread affinity; all access is through `&self` reads.
unsafe impl Send for Output {}
// SAFETY: as above; the accessors only read.
unsafe impl Sync for Output {}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Output({} bytes)", self.as_ref().len())
    }
}

impl Output {
    fn from_raw(api: Api, raw: *mut RawResult) -> Result<Self, String> {
        let raw = NonNull::new(raw).ok_or_else(|| "the engine gave no result".to_owned())?;
        let output = Self { api, raw };
        // SAFETY: a live result; NULL or a string owned by it.
        match unsafe { text((api.0.chdb_result_error)(raw.as_ptr())) } {
            Some(error) if !error.is_empty() => Err(error),
            _ => Ok(output),
        }
    }

    /// What the statement read and wrote.
    pub fn stats(&self) -> Stats {
        let raw = self.raw.as_ptr();
        // SAFETY: a live result.
        unsafe {
            Stats {
                read_rows: (self.api.0.chdb_result_storage_rows_read)(raw),
                read_bytes: (self.api.0.chdb_result_storage_bytes_read)(raw),
                written_rows: (self.api.0.chdb_result_rows_written)(raw),
                written_bytes: (self.api.0.chdb_result_bytes_written)(raw),
            }
        }
    }
}

impl AsRef<[u8]> for Output {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: a live result; its buffer is valid for its length until it is destroyed.
        unsafe {
            let length = (self.api.0.chdb_result_length)(self.raw.as_ptr());
            let buffer = (self.api.0.chdb_result_buffer)(self.raw.as_ptr());
            if buffer.is_null() || length == 0 {
                &[]
            } else {
                std::slice::from_raw_parts(buffer.cast(), length)
            }
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // SAFETY: destroyed once, here.
        unsafe { (self.api.0.chdb_destroy_query_result)(self.raw.as_ptr()) };
    }
}

/// A running SELECT; dropped early it is cancelled.
#[derive(Debug)]
pub struct SelectStream<'a> {
    connection: &'a mut Connection,
    handle: Output,
    finished: bool,
}

impl SelectStream<'_> {
    /// The next chunk, about 65 000 rows and a complete document of its format; None at the end.
    ///
    /// # Errors
    /// The engine's error text; the connection must not be used again.
    pub fn fetch(&mut self) -> Result<Option<Output>, String> {
        let raw = self.connection.raw();
        // SAFETY: live connection and stream handle, used by this thread alone.
        let chunk =
            unsafe { (self.connection.api.0.chdb_stream_fetch_result)(raw, self.handle.raw.as_ptr()) };
        let chunk = Output::from_raw(self.connection.api, chunk)?;
        if chunk.as_ref().is_empty() {
            self.finished = true;
            return Ok(None);
        }
        Ok(Some(chunk))
    }
}

impl Drop for SelectStream<'_> {
    fn drop(&mut self) {
        if !self.finished {
            let raw = self.connection.raw();
            // SAFETY: live connection and stream handle; the handle itself is freed by its own drop afterwards.
            unsafe { (self.connection.api.0.chdb_stream_cancel_query)(raw, self.handle.raw.as_ptr()) };
        }
    }
}

/// A running INSERT; dropped before [`done`](Self::done) it inserts nothing.
pub struct InsertStream<'a> {
    connection: &'a mut Connection,
    handle: NonNull<RawInsertStream>,
}

impl std::fmt::Debug for InsertStream<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InsertStream")
    }
}

impl InsertStream<'_> {
    fn error(&self) -> Option<String> {
        // SAFETY: a live stream; NULL or a string owned by it.
        unsafe {
            text((self.connection.api.0.chdb_stream_insert_error)(
                self.handle.as_ptr(),
            ))
        }
    }

    /// Hands over a chunk; it need not end at a row. Blocks while 16 chunks are queued.
    ///
    /// # Errors
    /// The engine's error text: the insert has failed.
    pub fn append(&mut self, chunk: &[u8]) -> Result<(), String> {
        // SAFETY: the chunk is valid for its length and copied by the engine.
        let state = unsafe {
            (self.connection.api.0.chdb_stream_append)(
                self.handle.as_ptr(),
                chunk.as_ptr().cast(),
                chunk.len(),
            )
        };
        if state == 0 {
            return Ok(());
        }
        Err(self
            .error()
            .unwrap_or_else(|| "the engine ended the insert without a reason".to_owned()))
    }

    /// Ends the data and commits it.
    ///
    /// # Errors
    /// The engine's error text; see `errors::after_insert` for what it means for the data.
    pub fn done(self) -> Result<Stats, String> {
        // SAFETY: a live stream, finalised once; the handle is freed by drop.
        let raw = unsafe { (self.connection.api.0.chdb_stream_done)(self.handle.as_ptr()) };
        Output::from_raw(self.connection.api, raw).map(|output| output.stats())
    }
}

impl Drop for InsertStream<'_> {
    fn drop(&mut self) {
        // SAFETY: destroyed once; the engine cancels first what was not finalised.
        unsafe { (self.connection.api.0.chdb_destroy_insert_stream)(self.handle.as_ptr()) };
    }
}

/// Ends the process at once, without exit handlers: those of the engine crash while sessions are open, and hang on
/// a broken disk.
pub fn exit_now(code: u8) -> ! {
    // SAFETY: takes an int and does not return.
    unsafe { libc::_exit(c_int::from(code)) }
}
