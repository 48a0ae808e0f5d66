#![allow(clippy::all, clippy::print_stdout, missing_docs)]
use std::time::{Duration, Instant};
use drctl_engines::pg::*;
use drctl_engines::*;
use drctl_model::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn server(args: &Vec<String>) -> PgServer {
    let get = |k: &str, d: &str| args.iter().find_map(|a| a.strip_prefix(&format!("{k}=")).map(str::to_owned)).unwrap_or(d.to_owned());
    PgServer {
        host: get("host", "/tmp/eng/pg/sock"), port: get("port", "5599").parse().unwrap(), user: get("user", "postgres"),
        maintenance_database: get("maint", "postgres"),
        password: args.iter().find_map(|a| a.strip_prefix("password=").map(|p| Secret::new(p))),
        sslmode: get("sslmode", "prefer").parse().unwrap(),
        ssl_root_cert: args.iter().find_map(|a| a.strip_prefix("root=").map(Into::into)),
        bin_dir: args.iter().find_map(|a| a.strip_prefix("bin=").map(Into::into)),
        runtime_dir: "/tmp/eng/run".into(),
    }
}
fn show(e: &EngineError) {
    println!("ERROR [{}] {e}", e.code());
    let mut s = std::error::Error::source(e);
    while let Some(c) = s { println!("   caused by: {c}"); s = c.source(); }
    if let Some(h) = e.hint() { println!("   hint: {h}"); }
}
#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    std::fs::create_dir_all("/tmp/eng/run").unwrap(); std::fs::create_dir_all("/tmp/eng/out").unwrap();
    let s = server(&args);
    let t = Instant::now();
    let r = match args[0].as_str() {
        "backup" => backup(s, &args).await,
        "restore" => restore(s, &args).await,
        "globals" => globals(s, &args).await,
        "probe" => probe(&s, "drctl/probe").await.map(|r| println!("{r:#?}")),
        "count" => count_rows(&s, &args[1], "drctl/count").await.map(|r| for t in r { println!("{}.{:?} {}", t.schema, t.table, t.rows) }),
        _ => panic!(),
    };
    if let Err(e) = r { show(&e) }
    println!("took {:?}; left in run: {}", t.elapsed(), std::fs::read_dir("/tmp/eng/run").unwrap().count());
}
async fn backup(s: PgServer, args: &Vec<String>) -> Result<(), EngineError> {
    let get = |k: &str| args.iter().find_map(|a| a.strip_prefix(&format!("{k}=")).map(str::to_owned));
    let o = PgDumpOptions { databases: match get("only") { Some(l) => DatabaseChoice::Only(l.split(',').map(Into::into).collect()), None => DatabaseChoice::All { exclude: vec![] } },
        globals: get("globals").is_some(), role_passwords: get("nopass").is_none(),
        lock_timeout: Duration::from_millis(get("lock").map_or(1000, |l| l.parse().unwrap())), lock_attempts: get("attempts").map_or(3, |l| l.parse().unwrap()) };
    let mut src: Box<dyn BackupSource> = Box::new(PgDumpSource::open(s, o, "drctl/try-1".into()).await?);
    let r = streams(&mut src, get("stop").map(|n| n.parse().unwrap()), get("pause").map(|n| n.parse().unwrap())).await;
    match r {
        Ok(true) => { println!("{:?}", src.finish().await?); Ok(()) }
        Ok(false) => { println!("aborting"); src.abort().await; Ok(()) }
        Err(e) => { if get("noabort").is_none() { src.abort().await; } Err(e) }
    }
}
async fn streams(src: &mut Box<dyn BackupSource>, stop: Option<u64>, pause: Option<u64>) -> Result<bool, EngineError> {
    while let Some(run) = src.next_stream().await? {
        let ToolRun { id, label, expected_bytes, mut output, outcome } = run;
        println!("{id} {label} expected {expected_bytes:?}");
        let mut f = tokio::fs::File::create(format!("/tmp/eng/out/{id}")).await.unwrap();
        let mut n = 0u64; let mut buf = vec![0; 1 << 16];
        loop {
            let k = match output.read(&mut buf).await { Ok(k) => k, Err(e) => { println!("read error {e}"); break } };
            if k == 0 { break }
            f.write_all(&buf[..k]).await.unwrap(); n += k as u64;
            if stop.is_some_and(|s| n >= s) { println!("stopped at {n}"); if pause.is_some() { tokio::time::sleep(Duration::from_secs(pause.unwrap())).await; } drop(outcome); return Ok(false) }
            if let Some(p) = pause { tokio::time::sleep(Duration::from_millis(p)).await; }
        }
        f.flush().await.unwrap();
        println!("  {n} bytes");
        let out = outcome.await?;
        println!("  {:?}", out.children);
        if let Content::Database(d) = &out.content {
            println!("  {} {} {} {} {} tables {} rows {}", d.name, d.owner, d.encoding, d.collate, d.bytes, d.tables.len(), d.tables.iter().map(|t| t.rows).sum::<u64>());
            let mut text = format!("{}\n{}\n{}\n{}\n{}\n{}\n", d.name, d.owner, d.encoding, d.collate, d.ctype, d.bytes);
            for t in &d.tables { text += &format!("{}\t{}\t{}\n", t.schema, t.table.replace('\n', "\\n"), t.rows); }
            std::fs::write(format!("/tmp/eng/out/{id}.facts"), text).unwrap();
        }
    }
    Ok(true)
}
fn facts(id: &str) -> DatabaseFacts {
    let t = std::fs::read_to_string(format!("/tmp/eng/out/{id}.facts")).unwrap();
    let mut l = t.lines().map(str::to_owned); let mut n = || l.next().unwrap();
    let (name, owner, encoding, collate, ctype, bytes) = (n(), n(), n(), n(), n(), n().parse().unwrap());
    let tables = l.map(|l| { let p: Vec<_> = l.split('\t').collect(); TableRows { schema: p[0].into(), table: p[1].replace("\\n", "\n"), rows: p[2].parse().unwrap() } }).collect();
    DatabaseFacts { name, owner, encoding, collate, ctype, bytes, tables }
}
async fn restore(s: PgServer, args: &Vec<String>) -> Result<(), EngineError> {
    let get = |k: &str| args.iter().find_map(|a| a.strip_prefix(&format!("{k}=")).map(str::to_owned));
    let id = &args[1];
    let f = facts(id);
    let target = get("as").unwrap_or(f.name.clone());
    if get("noflight").is_none() {
        let p = preflight(&s, Some(get("dumpmajor").map_or(15, |m| m.parse().unwrap())), &[RestoreDatabase { facts: &f, target_name: target.clone() }], get("whole").is_some(), "drctl/pre").await?;
        println!("{p:?}");
    }
    let options = RestoreOptions { jobs: get("jobs").map_or(1, |j| j.parse().unwrap()), spool_dir: get("spool").unwrap_or("/tmp/eng/run".into()).into(), owner: get("noowner").is_none() };
    let t = DatabaseTarget::new(s.clone(), f.clone(), target.clone(), options, "drctl/restore".into());
    let mut bytes = std::fs::read(format!("/tmp/eng/out/{id}")).unwrap();
    if let Some(cut) = get("cut") { bytes.truncate(cut.parse().unwrap()); }
    let ToolFeed { mut input, outcome } = t.start().await?;
    let cancel = get("cancel").map(|c| c.parse::<usize>().unwrap());
    let w = async { if let Some(c) = cancel { input.write_all(&bytes[..c]).await?; tokio::time::sleep(Duration::from_millis(500)).await; return Ok(()) } input.write_all(&bytes).await?; input.shutdown().await };
    let r = w.await;
    println!("wrote: {r:?}");
    drop(input);
    if cancel.is_some() { drop(outcome); println!("discard {:?}", t.discard().await); return Ok(()); }
    outcome.await?;
    let found = count_rows(&s, &target, "drctl/count").await?;
    println!("restored; differences {:?} of {} tables", compare_rows(&f.tables, &found), found.len());
    Ok(())
}
async fn globals(s: PgServer, _args: &Vec<String>) -> Result<(), EngineError> {
    let t = GlobalsTarget::new(s, "drctl/g".into());
    let bytes = std::fs::read("/tmp/eng/out/globals").unwrap();
    let ToolFeed { mut input, outcome } = t.start().await?;
    input.write_all(&bytes).await.unwrap(); input.shutdown().await.unwrap();
    outcome.await?;
    println!("{:#?}", t.notes());
    Ok(())
}
