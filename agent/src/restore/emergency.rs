//! A shell script that restores one backup without drctl.

use std::fmt::Write as _;

use drctl_model::shown;
use drctl_policies::{Location, Repository as RepositoryConfig};
use drctl_store::{Trust, layout};

use crate::host::shell::bash_word;
use crate::repository::Proven;

/// The script: needs bash, the bucket's own client, jq, sha256sum, age and zstd; checks the
/// signature too where openssl 3 is at hand. What it needs to know of the backup is in it, so a
/// printed copy restores from the bucket alone. Of an incremental backup, the last of `chain`, it
/// fetches all that it is based on, and writes what combines them.
#[must_use]
pub fn emergency_script(config: &RepositoryConfig, trust: &Trust, chain: &[Proven]) -> String {
    let Some(last) = chain.last() else { return String::new() };
    let (manifest, alone) = (&last.manifest, chain.len() == 1);
    let mut calls = String::new();
    for (n, link) in chain.iter().enumerate() {
        let (source, id) = (&link.manifest.source, &link.manifest.backup);
        let (key, base) = (layout::manifest(source, id), layout::backup(source, id));
        let into = if alone { "$out".to_owned() } else { format!("$out/{n}") };
        let _ = writeln!(calls, "one '{key}' '{base}' '{}' \"{into}\"", link.sha256);
    }
    let end = if alone {
        ALONE.to_owned()
    } else {
        CHAIN.replace("@LAST@", &(chain.len() - 1).to_string())
    };
    let mut keys = String::new();
    for key in trust.iter() {
        let _ = writeln!(keys, "{}", key.to_pem());
    }
    SCRIPT
        .replace("@SOURCE@", manifest.source.as_str())
        .replace("@BACKUP@", manifest.backup.as_str())
        .replace("@STARTED@", &manifest.started.to_string())
        .replace("@URL@", &comment(&config.url))
        .replace("@FETCH@", &fetch(config))
        .replace("@ONE@", calls.trim_end())
        .replace("@END@", &end)
        .replace("@RECIPIENTS@", &comment(&manifest.recipients.join(" or ")))
        .replace("@KEYS@", keys.trim_end())
}

/// A text in a comment: in one line, whatever is in it.
fn comment(text: &str) -> String {
    shown(text, usize::MAX)
}

/// The body of `fetch KEY FILE` for the bucket's own client.
fn fetch(config: &RepositoryConfig) -> String {
    let below = |prefix: &str| match prefix {
        "" => String::new(),
        prefix => format!("{prefix}/"),
    };
    let endpoint = config.endpoint.as_deref();
    match &config.location {
        Location::File { path } => {
            format!("cp -- {}/\"$1\" \"$2\"", bash_word(&path.display().to_string()))
        }
        Location::S3 { bucket, prefix, .. } => {
            let at = bash_word(&format!("s3://{bucket}/{}", below(prefix)));
            let endpoint =
                endpoint.map_or(String::new(), |e| format!(" --endpoint-url {}", bash_word(e)));
            format!("aws{endpoint} s3 cp --only-show-errors {at}\"$1\" \"$2\"")
        }
        Location::Azure { container, prefix, account, .. } => {
            let (container, account) = (bash_word(container), bash_word(account));
            let at = bash_word(&below(prefix));
            format!(
                "az storage blob download --output none --account-name {account} \
                 --container-name {container} --name {at}\"$1\" --file \"$2\""
            )
        }
        Location::Google { bucket, prefix, .. } => {
            let at = bash_word(&format!("gs://{bucket}/{}", below(prefix)));
            format!("gcloud storage cp --quiet {at}\"$1\" \"$2\"")
        }
    }
}

const SCRIPT: &str = r#"#!/usr/bin/env bash
# Restores backup @BACKUP@ of `@SOURCE@`, begun @STARTED@,
# from @URL@ without drctl.
#
#   bash restore.sh IDENTITY DIRECTORY
#
# IDENTITY   the age identity (AGE-SECRET-KEY-1...) of
#            @RECIPIENTS@
# DIRECTORY  a new directory; it gets a dump for each database and the SQL of roles and tablespaces
#
# Needs: bash, the bucket's client (see fetch below), jq, sha256sum, base64, age, zstd.
# Checks: the manifest's digest, number, length and SHA-256 of every segment, the plain length;
# with openssl 3 the signature, with xxh128sum the digest of the plain bytes.
set -euo pipefail
# All that it writes is unencrypted: only this account may read it.
umask 077
ulimit -c 0

if [ $# -ne 2 ]; then
    echo "usage: bash $0 IDENTITY DIRECTORY" >&2
    exit 2
fi
identity=$1
out=$2
for tool in jq sha256sum base64 age zstd; do
    command -v "$tool" > /dev/null || { echo "$tool is missing: install it first" >&2; exit 1; }
done
[ -r "$identity" ] || { echo "$identity cannot be read" >&2; exit 1; }
# Another account that may write into a directory above it could replace it.
at=$(realpath -m -- "$out")
until [ "$at" = / ]; do
    at=$(dirname -- "$at")
    [ -e "$at" ] || { echo "$at does not exist: make it first" >&2; exit 1; }
    owner=$(stat -c %u -- "$at") mode=$((8#$(stat -c %a -- "$at")))
    if [ "$owner" -ne 0 ] && [ "$owner" -ne "$(id -u)" ] \
        || [ $((mode & 8#22)) -ne 0 ] && [ $((mode & 8#1000)) -eq 0 ]; then
        echo "others may change $at: name a directory below one of your own, such as $HOME" >&2
        exit 1
    fi
done
mkdir -m 700 -- "$out" || { echo "name a directory that does not exist yet" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
fail() { echo "FAILED: $*" >&2; echo "Do not use what is in $out." >&2; exit 1; }

# fetch KEY FILE: one object of the repository. Change this line if your client is another one.
fetch() { @FETCH@; }

sum() { sha256sum < "$1" | cut -d' ' -f1; }

cat > "$work/keys.pem" << 'KEYS'
@KEYS@
KEYS

# one MANIFEST BASE SHA256 INTO: one backup, from the manifest of that key and digest.
one() {
base=$2
into=$4
mkdir -p -- "$into"
echo "manifest $1" >&2
fetch "$1" "$work/manifest" || fail "the manifest cannot be fetched"
[ "$(sum "$work/manifest")" = "$3" ] || fail "the manifest was altered"
jq -r .payload "$work/manifest" | base64 -d > "$work/payload"

if command -v openssl > /dev/null; then
    type=$(jq -r .payloadType "$work/manifest")
    { printf 'DSSEv1 %d %s %d ' "${#type}" "$type" "$(stat -c %s "$work/payload")"
      cat "$work/payload"; } > "$work/signed"
    jq -r '.signatures[0].sig' "$work/manifest" | base64 -d > "$work/sig"
    good=no
    csplit -s -z -f "$work/key" "$work/keys.pem" '/BEGIN PUBLIC KEY/' '{*}'
    for key in "$work"/key[0-9]*; do
        if openssl pkeyutl -verify -pubin -inkey "$key" -rawin -in "$work/signed" \
            -sigfile "$work/sig" > /dev/null 2>&1; then good=yes; fi
    done
    [ "$good" = yes ] || fail "no trusted key signed the manifest"
    echo "signature good" >&2
else
    echo "openssl is missing: the signature is not checked, the manifest's digest was" >&2
fi

jq -r .sealed "$work/payload" | base64 -d | age -d -i "$identity" | zstd -dcq > "$work/facts" \
    || fail "the identity does not open this backup"

streams=$(jq '.streams | length' "$work/payload")
for ((s = 0; s < streams; s++)); do
    stream() { jq -r ".streams[$s].$1" "$work/payload"; }
    id=$(stream id)
    jq -c ".streams[$s].pages[]" "$work/payload" > "$work/pages"
    : > "$work/list"
    while read -r page; do
        name=$(printf 'p%06d.json' "$(jq .n <<< "$page")")
        fetch "$base/$id/$name" "$work/page" || fail "$id/$name cannot be fetched"
        [ "$(sum "$work/page")" = "$(jq -r .sha256 <<< "$page")" ] || fail "$id/$name was altered"
        jq -r '.[] | "\(.n) \(.sealed) \(.sha256)"' "$work/page" >> "$work/list"
    done < "$work/pages"
    jq -r ".streams[$s].tail[] | \"\(.n) \(.sealed) \(.sha256)\"" "$work/payload" >> "$work/list"
    [ "$(wc -l < "$work/list")" -eq "$(stream segments)" ] || fail "the segment list of $id is cut"

    case $(jq -r ".streams[$s].content.type" "$work/facts") in
        globals) name=globals.sql ;;
        tablespace) name=$id.tar ;;
        listing) name=backup_manifest ;;
        *) name=$id.dump ;;
    esac
    echo "$name: $(stream segments) segments" >&2
    next=0
    while read -r n sealed sha256; do
        [ "$n" -eq "$next" ] || fail "segment $next of $id is not in the list"
        next=$((next + 1))
        object=$(printf '%s/%06d.zst.age' "$id" "$n")
        fetch "$base/$object" "$work/segment" || fail "$object cannot be fetched"
        [ "$(stat -c %s "$work/segment")" -eq "$sealed" ] || fail "$object has another length"
        [ "$(sum "$work/segment")" = "$sha256" ] || fail "$object was altered"
        age -d -i "$identity" "$work/segment" > "$work/frame" || fail "$object cannot be opened"
        zstd -dcq "$work/frame" >> "$into/$name" || fail "$object cannot be decompressed"
    done < "$work/list"
    touch "$into/$name"
    [ "$(stat -c %s "$into/$name")" -eq "$(stream plain_bytes)" ] || fail "$name has another length"
    if command -v xxh128sum > /dev/null; then
        plain=$(xxh128sum < "$into/$name" | cut -d' ' -f1)
        [ "$plain" = "$(jq -r ".streams[$s].plain_xxh128" "$work/facts")" ] \
            || fail "$name has another digest"
    fi
done
cp "$work/facts" "$into/facts.json"
}

@ONE@

@END@"#;

/// How it ends for a backup that is based on none.
const ALONE: &str = r#"echo "Everything is in $out and is what was backed up. To restore it:" >&2
jq -r 'def seen: gsub("[\\p{Cc}\\p{Cf}\\p{Zl}\\p{Zp}]"; "?"); .streams[] | .id |= seen
    | if .content.type == "tablespace" then "  tar -xf \(.id).tar -C EMPTY-DIRECTORY    # of mode 0700; base.tar is the data directory"
      + (if .content.path // "" | startswith("pg_tblspc/") then ", and this its \(.content.path | seen)" else "" end)
    elif .content.type == "listing" then "  copy backup_manifest into the data directory and run pg_verifybackup -i tablespace_map there;\n  change the paths in tablespace_map, set archive_mode = off and restore_command = \u0027false\u0027 and make recovery.signal before it is started"
    elif .content.type == "globals" then "  psql -X -d postgres -f globals.sql"
    elif .content.name == "postgres" then "  pg_restore --exit-on-error -d postgres \(.id).dump    # database postgres"
    else "  pg_restore --create --exit-on-error -d postgres \(.id).dump    # database \(.content.name | seen)" end' \
    "$work/facts" >&2
echo "Where the server's lc_monetary is not C and columns of money are in it, set PGOPTIONS='-c lc_monetary=C' before." >&2
echo "facts.json lists how many rows each table of a dump must have." >&2
"#;

/// How it ends for a chain of backups.
const CHAIN: &str = r#"cat > "$out/combine.sh" << 'COMBINE'
#!/usr/bin/env bash
# Combines the backups 0 (the full one) to @LAST@, as the server's account:
#
#   bash combine.sh DATA
#
# DATA gets the data directory, DATA-OID each tablespace; both are new. Needs pg_combinebackup of the
# server's major version on the path, and disk space for twice as much again.
set -euo pipefail
umask 077
[ $# -eq 1 ] || { echo "usage: bash $0 DATA" >&2; exit 2; }
new=$(realpath -m -- "$1")
cd -- "$(dirname -- "$0")"
copies=() mapped=()
for n in {0..@LAST@}; do
    mkdir -m 700 "$n/data"
    tar -xf "$n/base.tar" -C "$n/data"
    cp "$n/backup_manifest" "$n/data"
    for archive in "$n"/t*.tar; do
        [ -e "$archive" ] || continue
        oid=${archive##*/t} oid=${oid%.tar}
        mkdir -m 700 "$n/$oid"
        tar -xf "$archive" -C "$n/$oid"
        ln -s "$PWD/$n/$oid" "$n/data/pg_tblspc/$oid"
        [ "$n" -ne @LAST@ ] || mapped+=("--tablespace-mapping=$PWD/$n/$oid=$new-$oid")
    done
    copies+=("$n/data")
done
pg_combinebackup --manifest-checksums=SHA256 "${mapped[@]}" --output "$new" "${copies[@]}"
if [ -e "$new/tablespace_map" ]; then
    while read -r oid _; do echo "$oid $new-$oid"; done < "$new/tablespace_map" > map.new
    cat map.new > "$new/tablespace_map"
fi
echo "Run: pg_verifybackup -i tablespace_map $new"
COMBINE
echo "Everything is in $out and is what was backed up: 0 is a full backup, each other one holds the" >&2
echo "changes since the one before and needs it. As the server's account:" >&2
echo "  bash $out/combine.sh NEW-DIRECTORY" >&2
echo "Then set archive_mode = off and restore_command = 'false' and make recovery.signal in it before it is started." >&2
"#;
