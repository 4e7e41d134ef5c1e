//! From a caller to the TLS library that it uses: what lets one binary serve
//! any libssl, and several in one process.
//!
//! The function that a hook stands in front of is looked for in three steps:
//! in the scope of the object that called (which is the library itself, when
//! it calls its own function through the PLT), and behind us in the global
//! scope. From the function, its library; from the library, the whole table.
//!
//! Who called is told by the return address of an exported function. Rust has no
//! word for that, so such a function is two instructions that pass it on as one
//! more argument: [`go_on_with_caller`](crate::go_on_with_caller).

use std::ffi::{CStr, c_char, c_int, c_long, c_uchar, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use openssl_sys::{SSL, SSL_CTX, SSL_METHOD, SSL_SESSION};

use super::algorithms::{Algorithms, LibraryContext};
use super::api::{AnyFunction, TlsApi};
use crate::process::{self, Exclusive, OneAtATime};

/// One loaded TLS library.
pub struct Library {
    /// Where its libssl is loaded: its identity.
    base: usize,
    /// Its functions that we call.
    pub api: TlsApi,
    /// Its functions that the preload shim stands in front of.
    pub originals: Originals,
    /// The default library context, and what was fetched from it.
    pub algorithms: Algorithms,
    /// Where our state is in its objects.
    pub indices: Indices,
    /// Whether a server's certificate callback may change what is asked of clients, as
    /// [`super::late`] has it.
    pub(super) certificate_callbacks: AtomicU8,
    next: AtomicPtr<Library>,
}

/// The libraries that were met, newest first: pushed under
/// [`process::exclusive`], never removed.
static LIBRARIES: AtomicPtr<Library> = AtomicPtr::new(std::ptr::null_mut());

/// The library whose function named `anchor` the code at `caller` would call
/// if we were not there. `None` if there is none.
pub fn library_of(caller: *const c_void, anchor: &CStr) -> Option<&'static Library> {
    let function = function_for(caller, anchor)?;
    let object = Object::of(function)?;
    known(object.base).or_else(|| {
        // The loader is asked before the lock is taken: it has a lock of its
        // own, under which constructors may make an SSL_CTX and come here.
        // The handle stays open: a library that came in with a module could go
        // with it, and we keep its functions, the upkeep thread's among them.
        let handle = object.open()?;
        Some(enlist(object.base, table(handle), originals(handle)))
    })
}

/// As [`library_of`], remembered by call site, for hooks on warm paths. A call
/// site in a module is remembered until something is unloaded: another module
/// may lie there then, and use another library.
pub fn library_at(caller: *const c_void, anchor: &CStr) -> Option<&'static Library> {
    let site = caller as usize;
    let start = (site >> 2) % SITES.len();
    let probes = || (0..8).map(|step| &SITES[(start + step) % SITES.len()]);
    if site != 0 {
        let known = probes().find(|known| known.address.load(Ordering::Acquire) == site);
        if let Some(library) = known.and_then(Site::library) {
            return Some(library);
        }
    }
    // Nothing is waited for: a host's table may have a hook of ours in it, which
    // is called with the lock held.
    let valid = match may_be_unloaded(caller) {
        true => process::try_exclusive().map(|lock| unloads(&lock)),
        false => Some(Site::FOR_EVER),
    };
    let library = library_of(caller, anchor)?;
    if let Some(valid) = valid.filter(|_| site != 0) {
        WRITING.attempt(|| {
            let ours = |known: &&Site| [0, site].contains(&known.address.load(Ordering::Relaxed));
            if let Some(free) = probes().find(ours) {
                free.remember(site, library, valid);
            }
        });
    }
    Some(library)
}

/// A few suffice, one more resolves anew each time. Changed under
/// [`WRITING`] only.
static SITES: [Site; 64] = [const { Site::new() }; 64];
static WRITING: OneAtATime = OneAtATime::new();

/// A call site, and the library that it was found to use.
struct Site {
    address: AtomicUsize,
    library: AtomicPtr<Library>,
    /// As many unloadings were there then; odd values are for those below.
    valid: AtomicU64,
}

impl Site {
    const FOR_EVER: u64 = u64::MAX;
    const IN_THE_MAKING: u64 = u64::MAX - 2;

    const fn new() -> Self {
        let library = AtomicPtr::new(std::ptr::null_mut());
        Site { address: AtomicUsize::new(0), library, valid: AtomicU64::new(Self::IN_THE_MAKING) }
    }

    /// `None` if what was found is not sure any more.
    fn library(&self) -> Option<&'static Library> {
        // Acquire: what is loaded after it is not older than it.
        let valid = self.valid.load(Ordering::Acquire);
        let library = self.library.load(Ordering::Acquire);
        let same = self.valid.load(Ordering::Relaxed) == valid;
        let nothing_went = || process::try_exclusive().is_some_and(|lock| valid == unloads(&lock));
        let sure = same && (valid == Self::FOR_EVER || nothing_went());
        // SAFETY: only ever null or a pointer to a leaked Library.
        if sure { unsafe { library.as_ref() } } else { None }
    }

    fn remember(&self, site: usize, library: &'static Library, valid: u64) {
        self.valid.store(Self::IN_THE_MAKING, Ordering::Release);
        // Release: who sees the library does not see the old `valid` after it.
        self.library.store(ptr::from_ref(library).cast_mut(), Ordering::Release);
        self.valid.store(valid, Ordering::Release);
        self.address.store(site, Ordering::Release);
    }
}

/// False if the code at `caller` stays where it is as long as the process: in
/// the program itself, or in a TLS library, which we keep open.
fn may_be_unloaded(caller: *const c_void) -> bool {
    let Some(object) = Object::of(caller) else { return true };
    // SAFETY: takes a number.
    let entry = unsafe { libc::getauxval(libc::AT_ENTRY) } as *const c_void;
    let is_program = Object::of(entry).is_some_and(|program| program.base == object.base);
    !is_program && known(object.base).is_none()
}

/// How often something was unloaded since the process began (dl_iterate_phdr(3)),
/// doubled. The loader's lock is taken for that, which no fork of this process may
/// interrupt: the child would find it taken.
fn unloads(_lock: &Exclusive) -> u64 {
    unsafe extern "C" fn first(
        info: *mut libc::dl_phdr_info,
        size: usize,
        unloads: *mut c_void,
    ) -> c_int {
        let known = std::mem::offset_of!(libc::dl_phdr_info, dlpi_subs) + size_of::<u64>();
        if size >= known {
            // SAFETY: the loader's description, as long as it says; and our own counter.
            unsafe { unloads.cast::<u64>().write((*info).dlpi_subs) };
        }
        1
    }
    let mut unloads = 0_u64;
    // SAFETY: the function takes what it is called with, and stops at the first object.
    unsafe { libc::dl_iterate_phdr(Some(first), (&raw mut unloads).cast()) };
    unloads.wrapping_mul(2)
}

/// The ex_data indices of one TLS library; -1 until made.
pub struct Indices {
    /// For what a context owns of ours.
    pub tenancy: AtomicI32,
    /// For what a connection has of ours.
    pub(super) connection: AtomicI32,
    /// For the preload shim's own state.
    pub shim: AtomicI32,
}

impl Default for Indices {
    fn default() -> Self {
        let none = || AtomicI32::new(-1);
        Indices { tenancy: none(), connection: none(), shim: none() }
    }
}

impl Indices {
    /// The index kept in `cell`, made at its first use; < 0 if there is none. The
    /// caller holds [`process::exclusive`].
    pub fn get_or_make(cell: &AtomicI32, make: impl FnOnce() -> c_int) -> c_int {
        if cell.load(Ordering::Relaxed) < 0 {
            cell.store(make(), Ordering::Relaxed);
        }
        cell.load(Ordering::Relaxed)
    }

    /// For what a connection has of ours; < 0 before the first context is attached.
    pub fn connection(&self) -> c_int {
        self.connection.load(Ordering::Relaxed)
    }
}

/// All libraries that were met.
pub fn all() -> impl Iterator<Item = &'static Library> {
    // SAFETY: null or a pointer to a leaked Library; Acquire pairs with the
    // Release in `enlist`.
    let first = unsafe { LIBRARIES.load(Ordering::Acquire).as_ref() };
    // SAFETY: as above; set before the Library was published.
    std::iter::successors(first, |library| unsafe { library.next.load(Ordering::Relaxed).as_ref() })
}

/// What is called before a session is sealed into a ticket (SSL_CTX_set_session_ticket_cb(3)).
pub type SealsSession = Option<unsafe extern "C-unwind" fn(*mut SSL, *mut c_void) -> c_int>;

/// What is called after a ticket was opened, or not: with the session, the
/// key's name and its length, and a status.
pub type OpenedSession = Option<
    unsafe extern "C-unwind" fn(
        *mut SSL,
        *mut SSL_SESSION,
        *const c_uchar,
        usize,
        c_int,
        *mut c_void,
    ) -> c_int,
>;

/// `SSL_CTX_set_session_ticket_cb`.
pub type SetSessionTicketCb = Option<
    unsafe extern "C-unwind" fn(*mut SSL_CTX, SealsSession, OpenedSession, *mut c_void) -> c_int,
>;

/// `SSL_CTX_set_cert_cb` and `SSL_set_cert_cb`.
pub type SetCertCb<Of> = Option<unsafe extern "C-unwind" fn(*mut Of, AnyFunction, *mut c_void)>;

/// The functions that the preload shim stands in front of, as their library
/// defines them; `None` where it does not. A thread may be cancelled in them,
/// as if the shim were not there.
#[derive(Clone, Copy, Default)]
#[allow(missing_docs, reason = "each field is the TLS library's function of that name")]
pub struct Originals {
    pub ssl_ctx_new: Option<unsafe extern "C-unwind" fn(*const SSL_METHOD) -> *mut SSL_CTX>,
    pub ssl_ctx_new_ex: Option<
        unsafe extern "C-unwind" fn(*mut c_void, *const c_char, *const SSL_METHOD) -> *mut SSL_CTX,
    >,
    pub ssl_new: Option<unsafe extern "C-unwind" fn(*mut SSL_CTX) -> *mut SSL>,
    pub ssl_new_listener: Option<unsafe extern "C-unwind" fn(*mut SSL_CTX, u64) -> *mut SSL>,
    pub ssl_new_domain: Option<unsafe extern "C-unwind" fn(*mut SSL_CTX, u64) -> *mut SSL>,
    pub ssl_ctx_ctrl:
        Option<unsafe extern "C-unwind" fn(*mut SSL_CTX, c_int, c_long, *mut c_void) -> c_long>,
    pub ssl_ctx_set_msg_callback: Option<unsafe extern "C-unwind" fn(*mut SSL_CTX, AnyFunction)>,
    pub ssl_set_msg_callback: Option<unsafe extern "C-unwind" fn(*mut SSL, AnyFunction)>,
    pub ssl_callback_ctrl:
        Option<unsafe extern "C-unwind" fn(*mut SSL, c_int, AnyFunction) -> c_long>,
    /// What a connection was told about tickets.
    pub ssl_get_options: Option<unsafe extern "C" fn(*const SSL) -> u64>,
    pub ssl_get_max_early_data: Option<unsafe extern "C" fn(*const SSL) -> u32>,
    pub ssl_set_verify: Option<unsafe extern "C-unwind" fn(*mut SSL, c_int, AnyFunction)>,
    pub ssl_set_verify_depth: Option<unsafe extern "C-unwind" fn(*mut SSL, c_int)>,
    pub ssl_set_client_ca_list: Option<unsafe extern "C-unwind" fn(*mut SSL, *mut c_void)>,
    pub ssl_set_ssl_ctx:
        Option<unsafe extern "C-unwind" fn(*mut SSL, *mut SSL_CTX) -> *mut SSL_CTX>,
    pub ssl_ctx_set_session_ticket_cb: SetSessionTicketCb,
    pub ssl_ctx_set_cert_cb: SetCertCb<SSL_CTX>,
    pub ssl_set_cert_cb: SetCertCb<SSL>,
    /// What a session says in its ticket for whoever opens that.
    pub ssl_session_get0_ticket_appdata:
        Option<unsafe extern "C" fn(*mut SSL_SESSION, *mut *mut c_void, *mut usize) -> c_int>,
    pub ssl_session_set1_ticket_appdata:
        Option<unsafe extern "C" fn(*mut SSL_SESSION, *const c_void, usize) -> c_int>,
    /// What a session has of its client.
    pub ssl_session_get0_peer: Option<unsafe extern "C" fn(*const SSL_SESSION) -> *mut c_void>,
    pub ssl_session_get0_peer_rpk: Option<unsafe extern "C" fn(*const SSL_SESSION) -> *mut c_void>,
    /// How long a session lives, in seconds, and so what its ticket says.
    pub ssl_session_set_timeout: Option<unsafe extern "C" fn(*mut SSL_SESSION, c_long) -> c_long>,
    /// Only asked, as the next: QUIC listeners have it.
    pub ossl_quic_server_method: Option<unsafe extern "C" fn() -> *const SSL_METHOD>,
    /// Only asked: QUIC clients have one of them.
    pub ossl_quic_client_method: Option<unsafe extern "C" fn() -> *const SSL_METHOD>,
    pub ossl_quic_client_thread_method: Option<unsafe extern "C" fn() -> *const SSL_METHOD>,
    /// Where it is the clients' method, too, that one tells nothing.
    pub tls_server_method: Option<unsafe extern "C" fn() -> *const SSL_METHOD>,
}

fn known(base: usize) -> Option<&'static Library> {
    all().find(|library| library.base == base)
}

/// A library that a host links statically and whose table it gives us.
pub fn enlist_table(api: &TlsApi) -> &'static Library {
    // Any function's address tells one static library from another.
    let base = api.ssl_ctx_get_timeout.map_or(0, |function| function as usize);
    known(base).unwrap_or_else(|| enlist(base, *api, Originals::default()))
}

/// Adds a library, unless another thread was faster.
fn enlist(base: usize, api: TlsApi, originals: Originals) -> &'static Library {
    let _lock = process::exclusive();
    known(base).unwrap_or_else(|| {
        let next = AtomicPtr::new(LIBRARIES.load(Ordering::Relaxed));
        let indices = Indices::default();
        let algorithms = Algorithms::new(LibraryContext::DEFAULT);
        let certificate_callbacks = AtomicU8::new(0);
        let library =
            Library { base, api, originals, algorithms, indices, certificate_callbacks, next };
        let library = Box::leak(Box::new(library));
        LIBRARIES.store(library, Ordering::Release);
        library
    })
}

/// True if the address is in the object that this code is in.
pub fn is_ours(address: *const c_void) -> bool {
    in_our_object(address) == Some(true)
}

/// `None` if the loader does not tell.
fn in_our_object(address: *const c_void) -> Option<bool> {
    let ours = Object::of(library_of as *const c_void)?;
    Some(Object::of(address)?.base == ours.base)
}

/// The function of that name that the code at `caller` would reach without us.
/// For calls that are passed on though [`library_of`] found no library.
pub fn function_for(caller: *const c_void, name: &CStr) -> Option<*const c_void> {
    let in_scope_of_caller = || {
        let handle = Object::of(caller)?.open()?;
        // SAFETY: an open handle of dlopen; what keeps the function's library
        // loaded is the caller, whose code is running.
        let function = unsafe {
            let function = libc::dlsym(handle, name.as_ptr());
            libc::dlclose(handle);
            function
        };
        // If that is not known, it may be ours, which would call itself for ever.
        (in_our_object(function) == Some(false)).then_some(function.cast_const())
    };
    let behind_us = || {
        // SAFETY: RTLD_NEXT searches behind the object that this code is in.
        let function = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
        (!function.is_null()).then_some(function.cast_const())
    };
    in_scope_of_caller().or_else(behind_us)
}

/// A loaded object: the main program or a shared library.
struct Object {
    base: usize,
    path: *const libc::c_char,
}

impl Object {
    fn of(address: *const c_void) -> Option<Self> {
        let mut info = MaybeUninit::<libc::Dl_info>::uninit();
        // SAFETY: dladdr takes any address, and fills `info` when it returns non-zero.
        let info = unsafe {
            if address.is_null() || libc::dladdr(address, info.as_mut_ptr()) == 0 {
                return None;
            }
            info.assume_init()
        };
        Some(Object { base: info.dli_fbase as usize, path: info.dli_fname })
    }

    /// The main program: that where its headers are (getauxval(3)).
    fn is_main_program(&self) -> bool {
        // SAFETY: takes a number, and cannot fail.
        let headers = unsafe { libc::getauxval(libc::AT_PHDR) };
        Object::of(headers as *const c_void).is_some_and(|main| main.base == self.base)
    }

    /// A handle whose scope is the object's. It keeps the object loaded until
    /// it is closed.
    fn open(&self) -> Option<*mut c_void> {
        let flags = libc::RTLD_LAZY | libc::RTLD_NOLOAD;
        // The main program goes by no name: to find it by that which it was started by, the
        // loader would open the file, if that is still what it was.
        let names = [self.path, ptr::null()];
        let names = if self.is_main_program() { &names[1..] } else { &names[..] };
        let open = |name: &*const libc::c_char| {
            // SAFETY: null, or the loader's own string for a loaded object; with
            // RTLD_NOLOAD nothing is loaded.
            let handle = unsafe { libc::dlopen(*name, flags) };
            (!handle.is_null()).then_some(handle)
        };
        names.iter().find_map(open)
    }
}

/// The function of that name in the scope of `handle`, as the type that is asked for.
macro_rules! find {
    ($handle:expr, $name:literal) => {{
        // SAFETY: an open handle. The symbol, if there is one, is the TLS
        // library's function of that documented name, whose type the field
        // that takes the value has; null becomes None.
        unsafe {
            let symbol = libc::dlsym($handle, $name.as_ptr());
            std::mem::transmute::<*mut c_void, Option<_>>(symbol)
        }
    }};
}

/// The library's functions that we call.
fn table(handle: *mut c_void) -> TlsApi {
    TlsApi {
        size: size_of::<TlsApi>(),
        openssl_version_num: find!(handle, c"OpenSSL_version_num"),
        rand_bytes: find!(handle, c"RAND_bytes"),
        rand_priv_bytes: find!(handle, c"RAND_priv_bytes"),
        ssl_version: find!(handle, c"SSL_version"),
        ssl_ctx_get_timeout: find!(handle, c"SSL_CTX_get_timeout"),
        ssl_ctx_get_ex_data: find!(handle, c"SSL_CTX_get_ex_data"),
        ssl_ctx_set_ex_data: find!(handle, c"SSL_CTX_set_ex_data"),
        crypto_get_ex_new_index: find!(handle, c"CRYPTO_get_ex_new_index"),
        ssl_ctx_get_ex_new_index: find!(handle, c"SSL_CTX_get_ex_new_index"),
        ssl_ctx_set_tlsext_ticket_key_evp_cb: find!(
            handle,
            c"SSL_CTX_set_tlsext_ticket_key_evp_cb"
        ),
        ssl_ctx_set_tlsext_ticket_key_cb: find!(handle, c"SSL_CTX_set_tlsext_ticket_key_cb"),
        ssl_ctx_callback_ctrl: find!(handle, c"SSL_CTX_callback_ctrl"),
        evp_aes_256_cbc: find!(handle, c"EVP_aes_256_cbc"),
        evp_cipher_init_ex: find!(handle, c"EVP_CipherInit_ex"),
        evp_sha256: find!(handle, c"EVP_sha256"),
        hmac_init_ex: find!(handle, c"HMAC_Init_ex"),
        hmac_update: find!(handle, c"HMAC_Update"),
        evp_mac_init: find!(handle, c"EVP_MAC_init"),
        evp_mac_update: find!(handle, c"EVP_MAC_update"),
        ssl_get_servername: find!(handle, c"SSL_get_servername"),
        ssl_client_hello_get0_ext: find!(handle, c"SSL_client_hello_get0_ext"),
        ssl_session_reused: find!(handle, c"SSL_session_reused"),
        ssl_get_verify_mode: find!(handle, c"SSL_get_verify_mode"),
        ssl_get_verify_depth: find!(handle, c"SSL_get_verify_depth"),
        ssl_get_client_ca_list: find!(handle, c"SSL_get_client_CA_list"),
        ssl_get_ex_data: find!(handle, c"SSL_get_ex_data"),
        ssl_set_ex_data: find!(handle, c"SSL_set_ex_data"),
        ssl_get_ex_new_index: find!(handle, c"SSL_get_ex_new_index"),
        ssl_ctx_get0_certificate: find!(handle, c"SSL_CTX_get0_certificate"),
        x509_digest: find!(handle, c"X509_digest"),
        ssl_ctx_get_verify_mode: find!(handle, c"SSL_CTX_get_verify_mode"),
        ssl_ctx_get_verify_depth: find!(handle, c"SSL_CTX_get_verify_depth"),
        ssl_ctx_get_client_ca_list: find!(handle, c"SSL_CTX_get_client_CA_list"),
        sk_num: find!(handle, c"OPENSSL_sk_num").or_else(|| find!(handle, c"sk_num")),
        sk_value: find!(handle, c"OPENSSL_sk_value").or_else(|| find!(handle, c"sk_value")),
        x509_name_digest: find!(handle, c"X509_NAME_digest"),
        tls_client_method: find!(handle, c"TLS_client_method"),
        evp_aes_128_cbc: find!(handle, c"EVP_aes_128_cbc"),
        evp_md_fetch: find!(handle, c"EVP_MD_fetch"),
        evp_cipher_fetch: find!(handle, c"EVP_CIPHER_fetch"),
        hmac_ctx_new: find!(handle, c"HMAC_CTX_new"),
        hmac_ctx_free: find!(handle, c"HMAC_CTX_free"),
        hmac_ctx_copy: find!(handle, c"HMAC_CTX_copy"),
        err_set_mark: find!(handle, c"ERR_set_mark"),
        err_pop_to_mark: find!(handle, c"ERR_pop_to_mark"),
        rand_bytes_ex: find!(handle, c"RAND_bytes_ex"),
        rand_priv_bytes_ex: find!(handle, c"RAND_priv_bytes_ex"),
        evp_md_free: find!(handle, c"EVP_MD_free"),
        evp_cipher_free: find!(handle, c"EVP_CIPHER_free"),
        evp_default_properties_is_fips_enabled: find!(
            handle,
            c"EVP_default_properties_is_fips_enabled"
        ),
        x509_up_ref: find!(handle, c"X509_up_ref"),
        x509_free: find!(handle, c"X509_free"),
        ssl_get_client_random: find!(handle, c"SSL_get_client_random"),
        crypto_get_ex_data: find!(handle, c"CRYPTO_get_ex_data"),
        ssl_get_certificate: find!(handle, c"SSL_get_certificate"),
        ssl_get_session: find!(handle, c"SSL_get_session"),
        ssl_session_get0_id_context: find!(handle, c"SSL_SESSION_get0_id_context"),
        openssl_thread_stop_ex: find!(handle, c"OPENSSL_thread_stop_ex"),
        err_get_state: find!(handle, c"ERR_get_state"),
        ssl_ctrl: find!(handle, c"SSL_ctrl"),
        ssl_new: find!(handle, c"SSL_new"),
        ssl_free: find!(handle, c"SSL_free"),
        evp_digest: find!(handle, c"EVP_Digest"),
        ssl_ctx_get_cert_store: find!(handle, c"SSL_CTX_get_cert_store"),
        x509_store_up_ref: find!(handle, c"X509_STORE_up_ref"),
        x509_store_free: find!(handle, c"X509_STORE_free"),
        x509_store_lock: find!(handle, c"X509_STORE_lock"),
        x509_store_unlock: find!(handle, c"X509_STORE_unlock"),
        x509_store_get0_objects: find!(handle, c"X509_STORE_get0_objects"),
        x509_object_get0_x509: find!(handle, c"X509_OBJECT_get0_X509"),
        ssl_callback_ctrl: find!(handle, c"SSL_callback_ctrl"),
        crypto_lock: find!(handle, c"CRYPTO_lock"),
    }
    .with_what_it_is_known_to_have()
}

/// The library's functions that the shim stands in front of.
fn originals(handle: *mut c_void) -> Originals {
    Originals {
        ssl_ctx_new: find!(handle, c"SSL_CTX_new"),
        ssl_ctx_new_ex: find!(handle, c"SSL_CTX_new_ex"),
        ssl_new: find!(handle, c"SSL_new"),
        ssl_new_listener: find!(handle, c"SSL_new_listener"),
        ssl_new_domain: find!(handle, c"SSL_new_domain"),
        ssl_ctx_ctrl: find!(handle, c"SSL_CTX_ctrl"),
        ssl_ctx_set_msg_callback: find!(handle, c"SSL_CTX_set_msg_callback"),
        ssl_set_msg_callback: find!(handle, c"SSL_set_msg_callback"),
        ssl_callback_ctrl: find!(handle, c"SSL_callback_ctrl"),
        ssl_set_verify: find!(handle, c"SSL_set_verify"),
        ssl_set_verify_depth: find!(handle, c"SSL_set_verify_depth"),
        ssl_set_client_ca_list: find!(handle, c"SSL_set_client_CA_list"),
        ssl_set_ssl_ctx: find!(handle, c"SSL_set_SSL_CTX"),
        ssl_ctx_set_session_ticket_cb: find!(handle, c"SSL_CTX_set_session_ticket_cb"),
        ssl_ctx_set_cert_cb: find!(handle, c"SSL_CTX_set_cert_cb"),
        ssl_set_cert_cb: find!(handle, c"SSL_set_cert_cb"),
        ssl_session_get0_ticket_appdata: find!(handle, c"SSL_SESSION_get0_ticket_appdata"),
        ssl_session_set1_ticket_appdata: find!(handle, c"SSL_SESSION_set1_ticket_appdata"),
        ssl_session_get0_peer: find!(handle, c"SSL_SESSION_get0_peer"),
        ssl_session_get0_peer_rpk: find!(handle, c"SSL_SESSION_get0_peer_rpk"),
        ssl_session_set_timeout: find!(handle, c"SSL_SESSION_set_timeout"),
        ssl_get_options: find!(handle, c"SSL_get_options"),
        ssl_get_max_early_data: find!(handle, c"SSL_get_max_early_data"),
        ossl_quic_server_method: find!(handle, c"OSSL_QUIC_server_method"),
        ossl_quic_client_method: find!(handle, c"OSSL_QUIC_client_method"),
        ossl_quic_client_thread_method: find!(handle, c"OSSL_QUIC_client_thread_method"),
        tls_server_method: find!(handle, c"TLS_server_method"),
    }
}

/// The whole body of a naked function with `$arguments` (1 to 4) arguments of
/// one register each: goes on to `$target` with the return address as one
/// more argument.
#[cfg(target_arch = "x86_64")]
#[macro_export]
macro_rules! go_on_with_caller {
    (1, $target:path) => { $crate::go_on_with_caller!(@ "rsi", $target) };
    (2, $target:path) => { $crate::go_on_with_caller!(@ "rdx", $target) };
    (3, $target:path) => { $crate::go_on_with_caller!(@ "rcx", $target) };
    (4, $target:path) => { $crate::go_on_with_caller!(@ "r8", $target) };
    (@ $register:literal, $target:path) => {
        // System V AMD64 ABI: at entry the return address is on top of the stack.
        ::core::arch::naked_asm!(
            concat!("mov ", $register, ", [rsp]"),
            "jmp {}",
            sym $target
        )
    };
}

/// The whole body of a naked function with `$arguments` (1 to 4) arguments of
/// one register each: goes on to `$target` with the return address as one
/// more argument.
#[cfg(target_arch = "aarch64")]
#[macro_export]
macro_rules! go_on_with_caller {
    (1, $target:path) => { $crate::go_on_with_caller!(@ "x1", $target) };
    (2, $target:path) => { $crate::go_on_with_caller!(@ "x2", $target) };
    (3, $target:path) => { $crate::go_on_with_caller!(@ "x3", $target) };
    (4, $target:path) => { $crate::go_on_with_caller!(@ "x4", $target) };
    (@ $register:literal, $target:path) => {
        // AAPCS64: at entry the return address is in x30.
        ::core::arch::naked_asm!(
            concat!("mov ", $register, ", x30"),
            "b {}",
            sym $target
        )
    };
}
