use std::fs;
use std::future::pending;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::{Ask, Helper, HelperError, Refusal, Waiting};
use crate::common::EngineError;
use crate::common::opened::send_opened;
use crate::common::process::{Ended, Tool};

/// How long a child may be silent, where that does not matter.
const LONG: Duration = Duration::from_secs(60);

/// A place for a socket, one who listens there, and a child that is asked for there.
fn placed(silence: Duration) -> (TempDir, UnixListener, Tool) {
    let folder = tempfile::tempdir().unwrap();
    let helper = Helper::of("somebody", folder.path());
    let listener = UnixListener::bind(&helper.socket).unwrap();
    let ask = Ask { helper, job: json!({ "any": "job" }), silence };
    (folder, listener, Tool::asked_for("sh", ask))
}

/// Serves one request by a script; `made` is what it makes.
async fn serve(listener: &UnixListener, script: &str, made: Option<&Path>) {
    let (stream, _) = listener.accept().await.unwrap();
    let waiting = Waiting::hear(stream).await.unwrap();
    assert_eq!(waiting.job(), &json!({ "any": "job" }));
    let tool = Tool::new("sh", "/bin/sh".into()).args(&["-c", script]);
    waiting.run(&tool, made, pending()).await;
}

/// What a child wrote that runs elsewhere, and how it ended.
async fn heard(tool: &Tool, silence: Duration) -> Result<(String, Ended), EngineError> {
    let (mut output, running) = tool.start_writer()?;
    let mut text = String::new();
    let reading = async { output.read_to_string(&mut text).await.map_err(EngineError::io("read")) };
    running.watch().over(silence, reading).await?;
    Ok((text, running.wait_working(silence).await?))
}

fn helper_error(error: &EngineError) -> &HelperError {
    error.own().unwrap_or_else(|| panic!("{error}"))
}

#[tokio::test]
async fn a_child_elsewhere_is_as_one_of_our_own() {
    let (_folder, listener, tool) = placed(LONG);
    for (script, code) in [("echo out; echo err >&2", 0), ("echo out; echo err >&2; exit 3", 3)] {
        let (heard, ()) = tokio::join!(heard(&tool, LONG), serve(&listener, script, None));
        let (text, ended) = heard.unwrap();
        assert_eq!((text.as_str(), ended.stderr.as_str()), ("out\n", "err\n"));
        assert_eq!(ended.status.code(), Some(code));
    }
    let running = tool.start_alone().unwrap();
    let ((), ended) = tokio::join!(serve(&listener, "echo out; kill -9 $$", None), running.wait());
    assert_eq!(ended.unwrap().success().unwrap_err().to_string(), "sh failed (killed by signal 9)");
    // It sees nothing of anybody's environment.
    let (heard, ()) = tokio::join!(heard(&tool, LONG), serve(&listener, "env", None));
    let (text, _) = heard.unwrap();
    let names: Vec<&str> = text.lines().filter_map(|line| line.split('=').next()).collect();
    assert!(
        names
            .iter()
            .all(|name| ["PATH", "LC_ALL", "TZ", "PWD", "_", "SHLVL", "OLDPWD"].contains(name))
    );
}

#[tokio::test]
async fn whoever_hangs_up_ends_the_child_and_its_children() {
    let (folder, listener, tool) = placed(LONG);
    let (begun, mark) = (folder.path().join("begun"), folder.path().join("mark"));
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &begun,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    // A child of the child holds the pipe for as long as it lives.
    let script = format!(
        "trap 'echo ended > {}; exit 1' TERM; {{ echo x; sleep 1000; }} > {} & wait",
        mark.display(),
        begun.display()
    );
    let running = tool.start_alone().unwrap();
    let dropped = async {
        let mut pipe = tokio::net::unix::pipe::OpenOptions::new().open_receiver(&begun).unwrap();
        // Something comes when the child's child has begun.
        let mut one = [0; 2];
        while pipe.read(&mut one).await.unwrap() == 0 {
            tokio::task::yield_now().await;
        }
        drop(running);
        let mut rest = Vec::new();
        pipe.read_to_end(&mut rest).await.unwrap();
    };
    tokio::join!(serve(&listener, &script, None), dropped);
    assert_eq!(fs::read_to_string(mark).unwrap(), "ended\n", "it was asked to end first");
}

#[tokio::test]
async fn a_helper_that_is_gone_is_a_failure_whatever_came_before() {
    let (folder, listener, tool) = placed(LONG);
    let goes = async |said: &'static str| {
        let (stream, _) = listener.accept().await.unwrap();
        let (_, mut pipes) =
            crate::common::opened::receive_opened(&stream, super::PIPES).await.unwrap();
        let mut output = fs::File::from(pipes.pop().unwrap());
        std::io::Write::write_all(&mut output, b"all of it\n").unwrap();
        stream.writable().await.unwrap();
        stream.try_write(said.as_bytes()).unwrap();
    };
    for said in [
        "",
        "\"taken\"\n",
        "\"taken\"\n\"worked\"\n",
        "\"worked\"\n",
        "{\"ended\":0}",
        "{\"killed\":0}\n",
        "{\"ended\":256}\n",
        "x\n",
    ] {
        let (heard, ()) = tokio::join!(heard(&tool, LONG), goes(said));
        let error = heard.unwrap_err();
        assert!(matches!(helper_error(&error), HelperError::Failed { .. }), "{said}: {error}");
    }
    // What it has started lives on, with its pipes.
    let dies = async |said: &'static str| {
        let (stream, _) = listener.accept().await.unwrap();
        let pipes = crate::common::opened::receive_opened(&stream, super::PIPES).await.unwrap();
        stream.writable().await.unwrap();
        stream.try_write(said.as_bytes()).unwrap();
        pipes
    };
    let (heard_of_it, _pipes) =
        tokio::join!(timeout(LONG / 4, heard(&tool, LONG)), dies("\"taken\"\n"));
    let error = heard_of_it.expect("it is known at once").unwrap_err();
    assert!(matches!(helper_error(&error), HelperError::Failed { .. }), "{error}");
    for said in [
        "\"taken\"\n{\"failed\":\"no more room\"}\n",
        "\"taken\"\n{\"killed\":0}\n",
        "{\"refused\":{\"text\":\"not this\",\"hint\":\"write that\"}}\n",
    ] {
        let (heard_of_it, _pipes) = tokio::join!(timeout(LONG / 4, heard(&tool, LONG)), dies(said));
        let error = heard_of_it.expect("it is known at once").unwrap_err();
        assert!(!matches!(error, EngineError::Silent { .. } | EngineError::Held { .. }), "{error}");
    }
    let (short, said) = (Duration::from_secs(3), "\"taken\"\n{\"ended\":0}\n");
    let (heard_of_it, _pipes) = tokio::join!(heard(&tool, short), dies(said));
    let error = heard_of_it.unwrap_err();
    assert!(matches!(error, EngineError::Held { .. }), "{error}");
    // A child of another test may hold the listener until it becomes its program.
    drop((listener, folder));
    let error = heard(&tool, LONG).await.unwrap_err();
    assert!(matches!(helper_error(&error), HelperError::Unreached { .. }), "{error}");
    assert!(error.hint().unwrap().contains("drctl-job@somebody.socket"), "{error:?}");
}

#[tokio::test]
async fn nobody_waits_long_for_one_who_does_not_take_a_request() {
    let (_folder, _listener, tool) = placed(Duration::from_millis(300));
    let error = timeout(LONG / 4, heard(&tool, LONG)).await.expect("it is given up").unwrap_err();
    assert!(matches!(helper_error(&error), HelperError::Failed { .. }), "{error}");
    assert!(error.to_string().contains("did not take the request"), "{error}");
}

#[tokio::test]
async fn a_refusal_is_told_with_what_to_do() {
    let (_folder, listener, tool) = placed(LONG);
    let refuses = async {
        let (stream, _) = listener.accept().await.unwrap();
        let waiting = Waiting::hear(stream).await.unwrap();
        waiting.refuse(Refusal::new("not this\u{1b}[0m", "write that")).await;
    };
    let (heard, ()) = tokio::join!(heard(&tool, LONG), refuses);
    let error = heard.unwrap_err();
    assert!(error.to_string().contains("refuses: not this\\u{1b}[0m"), "{error}");
    assert_eq!(error.hint().as_deref(), Some("write that"));
}

#[tokio::test]
async fn one_that_hangs_is_given_up_and_one_that_works_in_silence_is_not() {
    let silence = Duration::from_millis(800);
    let (_folder, listener, tool) = placed(silence);
    let works = "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done; read x < /dev/null; i=0; \
                 while [ $i -lt 400000 ]; do i=$((i+1)); done; exit 0";
    let (heard_of_it, ()) = tokio::join!(heard(&tool, silence), serve(&listener, works, None));
    assert!(heard_of_it.unwrap().1.status.success());
    let hangs = "sleep 1000 & wait";
    let (heard_of_it, ()) = tokio::join!(heard(&tool, silence), serve(&listener, hangs, None));
    let error = heard_of_it.unwrap_err();
    assert!(matches!(error, EngineError::Silent { .. }), "{error}");
}

#[tokio::test]
async fn a_child_gives_way_as_whoever_asks_does() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let (messages, theirs_to_write) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let line = r#"{"version":1,"nice":7,"look_every_ms":1000,"job":{}}"#;
    send_opened(&mut ours, line, &[theirs_to_write]).await.unwrap();
    let waiting = Waiting::hear(theirs).await.unwrap();
    let script = "until [ \"$(nice)\" -ge 7 ]; do :; done";
    let tool = Tool::new("sh", "/bin/sh".into()).args(&["-c", script]);
    waiting.run(&tool, None, pending()).await;
    let mut said = String::new();
    ours.read_to_string(&mut said).await.unwrap();
    assert!(said.ends_with("{\"ended\":0}\n"), "{said}");
    drop(messages);
}

#[tokio::test]
async fn what_a_child_made_is_handed_on_only_if_it_succeeded() {
    let (folder, listener, tool) = placed(LONG);
    let made = folder.path().join("made");
    for (code, expected) in [(0, "whole"), (1, ""), (42, "")] {
        let script = format!("echo noise; printf whole > {}; exit {code}", made.display());
        let served = serve(&listener, &script, Some(&made));
        let (heard, ()) = tokio::join!(heard(&tool, LONG), served);
        let (text, ended) = heard.unwrap();
        assert_eq!((text.as_str(), ended.status.code()), (expected, Some(code)));
    }
    // Success without what it should have made is none.
    fs::remove_file(&made).unwrap();
    let (heard, ()) = tokio::join!(heard(&tool, LONG), serve(&listener, "exit 0", Some(&made)));
    let error = heard.unwrap_err();
    assert!(matches!(helper_error(&error), HelperError::Failed { .. }), "{error}");
}

#[tokio::test]
async fn what_is_no_request_with_pipes_to_write_into_is_refused() {
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let file = || tempfile::tempfile().unwrap().into();
    let good = r#"{"version":1,"nice":0,"look_every_ms":1000,"job":{}}"#;
    let cases = [
        (good, vec![], false),
        (good, vec![pipe().0], false),
        (good, vec![file()], false),
        (good, vec![pipe().1, file()], false),
        (good, vec![pipe().1, pipe().1, pipe().1], false),
        (r#"{"version":2,"nice":0,"look_every_ms":1000,"job":{}}"#, vec![pipe().1], false),
        (r#"{"version":1,"nice":0,"look_every_ms":1,"job":{},"argv":[]}"#, vec![pipe().1], false),
        ("{}", vec![pipe().1], false),
        ("run pgbackrest", vec![pipe().1], false),
        (good, vec![pipe().1], true),
        (good, vec![pipe().1, pipe().1], true),
    ];
    for (line, pipes, taken) in cases {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        send_opened(&mut ours, line, &pipes).await.unwrap();
        let waiting = Waiting::hear(theirs).await;
        assert_eq!(waiting.is_some(), taken, "{line}, {} pipe(s)", pipes.len());
        drop(waiting);
        let mut said = String::new();
        // Whatever of it was not read resets the connection.
        let _ = ours.read_to_string(&mut said).await;
        assert!(taken == (said == "\"taken\"\n") && taken != said.contains("refused"), "{said}");
    }
}
