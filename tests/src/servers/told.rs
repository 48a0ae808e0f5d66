//! Whom notifications are sent to: a mail server, and a web server that speaks TLS alone.

use std::fs;

use tempfile::TempDir;

use super::authority::Authority;
use super::process::{End, Process, bound};

/// A mail server of aiosmtpd. It says each mail in a line of JSON.
const MAIL: &str = r#"
import asyncio, json, ssl, sys
from aiosmtpd.smtp import SMTP, AuthResult
class Handler:
    async def handle_DATA(self, server, session, envelope):
        login = getattr(session, "who", None)
        print(json.dumps({"from": envelope.mail_from, "to": envelope.rcpt_tos, "tls": session.ssl is not None,
            "login": login, "data": envelope.content.decode()}), flush=True)
        return "250 OK"
def known(server, session, envelope, mechanism, data):
    good = (data.login, data.password) == (b"drctl", b"hunter2")
    session.who = data.login.decode() if good else None
    return AuthResult(success=good, handled=good)
def smtp():
    if not sys.argv[1:]:
        return SMTP(Handler(), hostname="mail")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*sys.argv[1:])
    return SMTP(Handler(), hostname="mail", tls_context=tls, require_starttls=True, auth_required=True, authenticator=known)
async def main():
    server = await asyncio.get_running_loop().create_server(smtp, "127.0.0.1", 0)
    print("ready at", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"#;

/// A web server that takes what is posted, and says each body in a line.
const WEB: &str = r#"
import http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        print(self.rfile.read(int(self.headers["content-length"])).decode(), flush=True)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *words):
        pass
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(*sys.argv[1:])
server.socket = tls.wrap_socket(server.socket, server_side=True)
print("ready at", server.server_port, flush=True)
server.serve_forever()
"#;

/// A server that is told something.
#[derive(Debug)]
pub struct Told {
    process: Process,
    _folder: TempDir,
}

impl Told {
    /// A mail server that takes mails from `drctl` with the password `hunter2`, and only after STARTTLS.
    ///
    /// # Panics
    /// If Debian's python3-aiosmtpd is not installed.
    #[must_use]
    pub fn mail(authority: &Authority) -> Told {
        Told::start(MAIL, Some(authority))
    }

    /// A mail server without encryption, which takes mails from anybody.
    ///
    /// # Panics
    /// If Debian's python3-aiosmtpd is not installed.
    #[must_use]
    pub fn plain_mail() -> Told {
        Told::start(MAIL, None)
    }

    /// A web server that speaks TLS alone.
    ///
    /// # Panics
    /// If there is no Python.
    #[must_use]
    pub fn web(authority: &Authority) -> Told {
        Told::start(WEB, Some(authority))
    }

    fn start(script: &str, authority: Option<&Authority>) -> Told {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = bound("/usr/bin/python3", End::Kill, None);
        command.args(["-c", script]);
        if let Some(authority) = authority {
            let (certificate, key) = authority.server();
            for (name, text) in [("certificate", certificate), ("key", key)] {
                fs::write(folder.path().join(name), text).expect("written");
                command.arg(folder.path().join(name));
            }
        }
        let process = Process::start(command, End::Kill, "ready at ");
        Told { process: process.unwrap_or_else(|error| panic!("{error}")), _folder: folder }
    }

    /// Its port on 127.0.0.1.
    ///
    /// # Panics
    /// If it said none.
    #[must_use]
    pub fn port(&self) -> u16 {
        let log = self.process.log();
        let said = log.lines().find_map(|line| line.strip_prefix("ready at "));
        said.and_then(|port| port.trim().parse().ok()).expect("a port")
    }

    /// What it was told so far: a mail, or a body, in each line.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let log = self.process.log();
        log.lines().filter(|line| line.starts_with('{')).map(str::to_owned).collect()
    }
}
