//! What `magpie serve --api` refuses: places that are not its own, names that lead here, values that it does not take, and
//! changes that change nothing.

use serde_json::{Value, json};

use crate::service::{Answer, Running, exchange, serve, shop};
use crate::service_changes::open;
use crate::world::{parsed, shape, tree};

fn detail(answer: &Answer) -> String {
    parsed(&answer.text())["detail"].as_str().expect("a sentence").to_owned()
}

/// A request that is asked by a name.
fn asked_by(server: &Running, name: &str, path: &str) -> Answer {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
    exchange(&server.host, request.as_bytes()).expect("an answer")
}

#[test]
fn a_state_folder_is_empty_or_its_own_and_outside_the_site() {
    let shop = shop();
    shop.0.write("notes/thesis.txt", "mine");
    shop.0.write("token", "a-token-of-the-test");
    shop.0.write("site/token", "a-token-of-the-test");
    shop.does("publish --extractor model.safetensors --gallery gallery.bin --out other");
    let before = (tree(&shop.path("notes")), tree(&shop.path("other")), tree(&shop.path("site")));
    for (more, told) in [
        (
            "--state notes",
            "notes: holds other files (thesis.txt); give --state a new or empty folder",
        ),
        ("--state other", "other: holds other files ("),
        ("--state gallery.bin", "gallery.bin: is a file; name a folder"),
        ("--state gallery.bin/state", "gallery.bin: is a file; name a folder"),
        ("--state site", "--state: lies in the site, whose files are sent to whoever asks"),
        ("--state site/state", "--state: lies in the site"),
        ("--state state --token-file site/token", "--token-file: lies in the site"),
        ("--token-file-read site/token", "--token-file-read: lies in the site"),
        ("--address 192.0.2.1", "192.0.2.1 is no address of this machine; give --address"),
        ("--host http://shop.example", "write a name without scheme, port and path"),
    ] {
        let said = shop.refused(&format!("serve site --api --port 0 {more}"));
        assert!(said.contains(told) && !said.contains("os error"), "{more}: {said}");
    }
    #[cfg(unix)]
    {
        let linked = shop.path("site/further");
        std::fs::hard_link(shop.path("token"), &linked).expect("a link");
        let said = shop.refused("serve site --api --port 0 --state state --token-file token");
        assert!(said.contains("--token-file: is also site/further, in the site"), "{said}");
        std::fs::remove_file(linked).expect("it goes");
        std::os::unix::fs::symlink("gone", shop.path("link")).expect("a link");
        let publish = crate::sites::publishing("new.bin", "link", "");
        for line in ["serve site --api --port 0 --state link", publish.as_str()] {
            let said = shop.refused(line);
            assert!(said.contains("link: is a link to gone, where nothing is"), "{said}");
            assert!(!shop.path("gone").exists());
        }
    }
    let after = (tree(&shop.path("notes")), tree(&shop.path("other")), tree(&shop.path("site")));
    assert!(before == after, "nothing was written");
    assert!(!shop.path("state").exists());
}

#[test]
fn a_page_of_a_stranger_does_not_reach_the_service_by_a_name_of_its_own() {
    let shop = shop();
    let server = serve(&shop.path("site"), &[]);
    for path in ["/v1/gallery", "/v1/", "/", "/metrics", "/healthz"] {
        let refused = asked_by(&server, "rebound.example:8080", path);
        assert_eq!((refused.status, refused.problem().as_str()), (421, "host"), "{path}");
        for own in ["localhost", "127.0.0.1:8080", "[::1]"] {
            assert_eq!(asked_by(&server, own, path).status, 200, "{own} {path}");
        }
    }
    drop(server);
    let server = serve(&shop.path("site"), &["--host", "shop.example", "--host", "b.example"]);
    for (name, status) in
        [("shop.example", 200), ("B.example:443", 200), ("c.example", 421), ("localhost", 200)]
    {
        assert_eq!(asked_by(&server, name, "/v1/gallery").status, status, "{name}");
    }
    drop(server);
    // Who needs a token gains nothing by a name.
    let token = shop.0.write("token", "a-token-of-the-test");
    let server = serve(&shop.path("site"), &["--token-file-read", token.to_str().expect("UTF-8")]);
    assert_eq!(asked_by(&server, "shop.example", "/v1/gallery").problem(), "token");
    assert_eq!(asked_by(&server, "shop.example", "/healthz").status, 200);
}

#[test]
fn a_request_names_one_host_and_a_link_leads_to_nothing_outside_the_site() {
    let shop = shop();
    shop.0.write("token", "a-token-of-the-test");
    shop.0.write("outside/index.html", "not for others");
    #[cfg(unix)]
    for (to, link) in
        [("token", "site/told"), ("outside", "site/out"), ("site/index.html", "site/start.html")]
    {
        std::os::unix::fs::symlink(shop.path(to), shop.path(link)).expect("a link");
    }
    #[cfg(unix)]
    {
        let said = shop.refused("serve site --api --port 0 --token-file-read site/told");
        assert!(said.contains("--token-file-read: lies in the site"), "{said}");
    }
    std::fs::write(shop.path("site/packed.txt"), "packed").expect("a file");
    #[cfg(unix)]
    std::os::unix::fs::symlink(shop.path("token"), shop.path("site/packed.txt.gz"))
        .expect("a link");
    let token = shop.path("token");
    let server = serve(&shop.path("site"), &["--token-file-read", token.to_str().expect("UTF-8")]);
    let get = |path: &str| {
        let token = "Authorization: Bearer a-token-of-the-test";
        server.ask("GET", path, &[token, "Accept-Encoding: gzip"], b"")
    };
    for path in ["/told", "/out/", "/out/index.html", "/%2e%2e/token"] {
        assert_eq!(get(path).status, 404, "{path}");
    }
    assert_eq!(get("/packed.txt").body, b"packed");
    #[cfg(unix)]
    assert_eq!(get("/start.html").status, 200, "a link to what is in the site");
    for (hosts, version, status) in [
        ("", "1.1", 400),
        ("Host: localhost\r\nHost: localhost\r\n", "1.1", 400),
        ("", "1.0", 200),
        ("Host: localhost\r\n", "1.1", 200),
    ] {
        for path in ["/healthz", "/v1/"] {
            let request = format!("GET {path} HTTP/{version}\r\n{hosts}Connection: close\r\n\r\n");
            let answer = exchange(&server.host, request.as_bytes()).expect("an answer");
            assert_eq!(answer.status, status, "{version} {hosts:?} {path}");
            assert!(status == 200 || answer.problem() == "request");
        }
    }
}

#[test]
fn names_that_steer_how_text_is_shown_are_not_taken() {
    let (shop, server) = open();
    let picture = shape(2, 1, 30).encode_png().expect("a PNG");
    let refused = |answer: Answer, told: &str| {
        assert_eq!((answer.status, answer.problem().as_str()), (422, "value"), "{}", answer.text());
        assert!(detail(&answer).starts_with(told), "{}", answer.text());
    };
    let name = "the name of a class holds U+";
    for class in ["a%00b", "a%1b[2K", "gpj%e2%80%ae.exe"] {
        let path = format!("/v1/entries?class={class}");
        refused(server.change("POST", &path, &["Content-Type: image/png"], &picture), name);
    }
    let id = server.get("/v1/entries").json()["entries"][0]["id"].clone();
    let moved = json!({"ids": [id], "to": "a\u{2066}b"});
    refused(server.change_json("POST", "/v1/entries/move", &moved), name);
    let patch = |body: Value| server.change_json("PATCH", "/v1/classes/0", &body);
    refused(patch(json!({"label": "a\nb"})), name);
    refused(patch(json!({"metadata": {"a\u{1b}": "b"}})), "the name of metadata holds U+001B");
    refused(patch(json!({"metadata": {"a": "b\u{202e}"}})), "the text of metadata holds U+202E");
    patch(json!({"metadata": {"about": "two\nlines"}})).json();
    let mut gallery =
        models::Gallery::from_bytes(&server.get("/v1/gallery/file").body).expect("one");
    gallery.rename_class(0, "a\u{202e}b").expect("a name");
    let put = server.change("PUT", "/v1/gallery/file", &[], &gallery.to_bytes());
    refused(put, "class \"a\\u{202e}b\": the name of a class holds U+202E");
    assert_eq!(server.get("/v1/gallery").json()["classes"], 2);
    // The commands give no such name either.
    let said = shop.refused("gallery rename gallery.bin 0 a\u{202e}b");
    assert!(said.contains("holds U+202E"), "{said}");
    shop.0.write("steers/a\u{202e}b/1.png", &picture);
    shop.0.write("steers/fine/1.png", &picture);
    let said =
        shop.0.succeed("gallery add gallery.bin --images steers --extractor model.safetensors");
    assert!(said.contains("a character that steers how text is shown"), "{said}");
}

#[test]
fn the_page_is_found_without_its_slash() {
    let shop = shop();
    let server = serve(&shop.path("site"), &[]);
    let led = server.get("/v1");
    assert_eq!((led.status, led.header("location")), (308, "v1/"));
    assert_eq!(server.get("/manage").header("location"), "manage/");
    // The owner has a page only where it is asked for.
    assert_eq!(
        (server.get("/manage/").status, server.get("/manage/").problem()),
        (404, "not-found".to_owned())
    );
    let wrong = server.ask("POST", "/v1", &[], b"");
    assert_eq!((wrong.problem().as_str(), wrong.header("allow")), ("method", "GET, HEAD, OPTIONS"));
}

#[test]
fn values_are_told_with_what_is_taken_in_words_of_the_service() {
    let shop = shop();
    let server = serve(&shop.path("site"), &[]);
    let picture = shape(0, 0, 40).encode_png().expect("a PNG");
    let image = |query: &str| {
        server.ask(
            "POST",
            &format!("/v1/recognize?{query}"),
            &["Content-Type: image/png"],
            &picture,
        )
    };
    for (query, kind, told) in [
        ("top_k=many", "request", "top_k is \"many\"; it takes a whole number from 1 to 100"),
        ("top_k=-1", "value", "top_k is -1; it takes a whole number from 1 to 100"),
        ("min_score=1.5", "value", "min_score is 1.5; it takes a number from 0 to 1"),
        (
            "min_similarity=high",
            "request",
            "min_similarity is \"high\"; it takes a number from -1 to 1",
        ),
        ("tpo_k=3", "request", "there is no option \"tpo_k\"; did you mean top_k?"),
        ("fields=color", "request", "fields is \"color\"; it takes one of bbox, "),
        ("class=00", "not-found", "there is no class \"00\"; did you mean \"0\"?"),
        ("class=0&class=zebra", "not-found", "there is no class \"zebra\"; GET /v1/classes"),
        ("where=price=9", "not-found", "no class has metadata \"price\"; GET /v1/classes"),
    ] {
        let answer = image(query);
        assert_eq!(answer.problem(), kind, "{query}");
        assert!(detail(&answer).starts_with(told), "{query}: {}", answer.text());
    }
    for (path, told) in [
        ("/v1/classes?limit=0", "limit is 0; it takes a whole number from 1 to 1000"),
        ("/v1/classes?offset=x", "offset is \"x\"; it takes a whole number from 0 to 1000000000"),
        ("/v1/entries?embeddings=yes", "embeddings is \"yes\"; it takes true or false"),
        ("/v1/entries?class=zebra", "there is no class \"zebra\"; GET /v1/classes"),
        ("/v1/classes?where=a=b", "no class has metadata \"a\"; GET /v1/classes"),
        ("/v1/gallery?limit=1", "there is no option \"limit\"; this path takes no option"),
    ] {
        let answer = server.get(path);
        assert!(
            answer.status >= 400 && detail(&answer).starts_with(told),
            "{path}: {}",
            answer.text()
        );
    }
    for (body, told) in [
        (json!({"images": "x"}), "images is \"x\"; it takes a list, each item an object"),
        (json!({"images": [{"data": 5}]}), "images.data is 5; it takes a text"),
        (json!({"images": [{"name": "a"}]}), "data is missing in images; it takes a text"),
        (
            json!({"images": [{"data": "", "named": ""}]}),
            "there is no option \"named\"; did you mean name?",
        ),
        (
            json!({"images": [{"data": "data:image/png;base64,AA=="}]}),
            "images[0].data is no Base64: ",
        ),
        (json!({"class": 5}), "class is 5; it takes a list, each item a text, or a text"),
        (json!({"where": {"a": 5}}), "where.a is 5; it takes a text"),
        (json!([]), "the JSON is no object; send {\"NAME\": VALUE, …}"),
        (json!({}), "no image came; "),
    ] {
        let answer = server.post_json("/v1/recognize", &body);
        assert_eq!(answer.problem(), "request", "{body}");
        assert!(detail(&answer).starts_with(told), "{body}: {}", answer.text());
    }
    for long in [json!({"class": "x".repeat(70_000)}), json!({"where": {"x".repeat(70_000): ""}})] {
        let long = server.post_json("/v1/search", &long);
        assert_eq!(long.problem(), "value");
        assert!(detail(&long).contains("longer than 65536 bytes"), "{}", long.text());
    }
    // What is sent is not sent back whole.
    let long = image(&format!("class={}", "x".repeat(4000)));
    assert!(long.problem() == "not-found" && long.body.len() < 400, "{}", long.text());
}

#[test]
fn what_is_all_that_came_is_the_answer_where_it_cannot_be_used() {
    let shop = shop();
    let server = serve(&shop.path("site"), &[]);
    for body in [json!({"embedding": [1.0]}), json!({"embeddings": [[1.0]]})] {
        let alone = server.post_json("/v1/search", &body);
        assert_eq!((alone.status, alone.problem().as_str()), (422, "value"), "{body}");
        assert!(detail(&alone).contains("the embedding has 1 values"), "{}", alone.text());
    }
    let both = server.post_json("/v1/search", &json!({"embeddings": [[1.0], [2.0]]})).json();
    assert_eq!(both["images"][1]["problem"]["status"], 422);
    for (name, value, count) in
        [("embeddings", json!([]), 1025), ("class", json!(""), (1 << 20) + 1)]
    {
        let many = server.post_json("/v1/search", &json!({name: vec![value; count]}));
        assert_eq!(many.problem(), "too-large", "{name}");
    }
    for body in [json!({}), json!({"embeddings": []}), json!({"images": []})] {
        let none = server.post_json("/v1/search", &body);
        assert_eq!(none.problem(), "request", "{body}");
        assert!(detail(&none).starts_with("nothing came to search for; "), "{}", none.text());
    }
    let data = "bm8gaW1hZ2U=";
    let alone = server.post_json("/v1/recognize", &json!({"images": [{"data": data}]}));
    assert_eq!(alone.problem(), "format");
    let both = json!({"images": [{"data": data}, {"data": data}]});
    assert_eq!(
        server.post_json("/v1/recognize", &both).json()["images"][0]["problem"]["status"],
        415
    );
}

#[test]
fn a_body_of_another_type_is_told_with_those_that_are_read() {
    let (_shop, server) = open();
    let picture = shape(0, 0, 40).encode_png().expect("a PNG");
    let form = "Content-Type: application/x-www-form-urlencoded";
    for (method, path, told) in [
        (
            "POST",
            "/v1/recognize",
            "send image/*, application/octet-stream, multipart/form-data or application/json",
        ),
        ("POST", "/v1/entries?class=0", "send image/*, "),
        ("PUT", "/v1/gallery/file", "send the file's bytes as application/octet-stream"),
    ] {
        let refused = server.change(method, path, &[form], &picture);
        assert_eq!((refused.status, refused.problem().as_str()), (415, "format"), "{path}");
        let detail = detail(&refused);
        assert!(detail.contains(told) && detail.contains("(curl: -H"), "{path}: {detail}");
    }
    let packed = ["Content-Type: image/png", "Content-Encoding: gzip"];
    let refused = server.change("POST", "/v1/recognize", &packed, &picture);
    assert!(
        refused.problem() == "format" && detail(&refused).contains("Content-Encoding \"gzip\""),
        "{}",
        refused.text()
    );
    // The one class of a form may stand behind its image.
    let form = [
        b"--b\r\nContent-Disposition: form-data; name=image; filename=a\r\n\r\n".to_vec(),
        shape(2, 0, 40).encode_png().expect("a PNG"),
        b"\r\n--b\r\nContent-Disposition: form-data; name=class\r\n\r\nnew\r\n--b--".to_vec(),
    ];
    let kind = "Content-Type: multipart/form-data; boundary=b";
    assert_eq!(server.change("POST", "/v1/entries", &[kind], &form.concat()).json()["added"], 1);
    assert_eq!(server.get("/v1/classes/new").json()["entries"], 1);
    let raw = server.change("PATCH", "/v1/classes/0", &[], b"{\"label\": \"zero\"}");
    assert!(
        raw.problem() == "request" && detail(&raw).contains("as application/json"),
        "{}",
        raw.text()
    );
    let form = "Content-Type: application/x-www-form-urlencoded";
    assert_eq!(server.change("PATCH", "/v1/classes/0", &[form], b"{}").problem(), "format");
}

#[test]
fn titles_say_what_is_wrong() {
    let (_shop, server) = open();
    let title =
        |answer: &Answer| parsed(&answer.text())["title"].as_str().expect("a title").to_owned();
    let put = server.change("PUT", "/v1/gallery/file", &[], b"no gallery");
    assert_eq!((put.status, put.problem().as_str()), (422, "gallery"));
    assert_eq!(title(&put), "The file is no gallery that can be used");
    let blank = server.change_json("PATCH", "/v1/classes/0", &json!({"label": " "}));
    assert_eq!(
        (blank.problem().as_str(), title(&blank).as_str()),
        ("value", "A value cannot be taken")
    );
    let none = server.ask("POST", "/v1/recognize", &[], b"");
    assert_eq!(title(&none), "The request is malformed or incomplete");
    let long = server.change_json("PATCH", "/v1/classes/0", &json!({"label": "x".repeat(5000)}));
    assert!(long.problem() == "value" && detail(&long).contains("4096 bytes"), "{}", long.text());
    let long = json!({"metadata": {"text": "x".repeat(70_000)}});
    assert_eq!(server.change_json("PATCH", "/v1/classes/0", &long).problem(), "value");
}

#[test]
fn a_change_that_changes_nothing_leaves_version_tag_and_undo_alone() {
    let (_shop, server) = open();
    let picture = shape(2, 1, 30).encode_png().expect("a PNG");
    let add = |class: &str| {
        let path = format!("/v1/entries?class={class}");
        server.change("POST", &path, &["Content-Type: image/png"], &picture)
    };
    add("a").json();
    server.change_json("PATCH", "/v1/classes/a", &json!({"metadata": {"price": "9"}})).json();
    server.change_json("POST", "/v1/gallery/adapt", &json!({})).json();
    server.change_json("POST", "/v1/gallery/calibrate", &json!({})).json();
    let about = server.get("/v1/gallery");
    let (tag, version) = (about.header("etag").to_owned(), about.json()["version"].clone());
    let figures = || {
        let text = server.get("/metrics").text();
        let wanted = ["magpie_journal_bytes ", "magpie_changes_total "];
        text.lines()
            .filter(|line| wanted.iter().any(|name| line.starts_with(name)))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let before = figures();
    assert_eq!(before.len(), 2);
    let file = server.get("/v1/gallery/file").body;
    let id = server.get("/v1/entries?class=a").json()["entries"][0]["id"].clone();
    let same = |answer: Answer| {
        assert_eq!(
            (answer.header("etag"), &answer.json()["version"]),
            (&*tag, &version),
            "{}",
            answer.text()
        );
        answer.json()
    };
    assert_eq!(same(add("a"))["known"], 1);
    same(server.change_json("PATCH", "/v1/classes/a", &json!({})));
    same(server.change_json(
        "PATCH",
        "/v1/classes/a",
        &json!({"label": "a", "metadata": {"price": "9", "x": null}}),
    ));
    assert_eq!(
        same(server.change_json("POST", "/v1/entries/move", &json!({"ids": [id], "to": "a"})))["moved"],
        0
    );
    for path in ["/v1/gallery/adapt", "/v1/gallery/calibrate"] {
        let told = same(server.change_json("POST", path, &json!({})));
        assert!(told["lines"].as_array().is_some_and(|lines| !lines.is_empty()), "{told}");
    }
    same(server.change("PUT", "/v1/gallery/file", &[], &file));
    assert_eq!(figures(), before);
    // The last change that was one goes.
    let mut undone = 0;
    while server.get("/v1/classes/a").json()["metadata"] != json!({}) {
        server.change("POST", "/v1/undo", &[], b"").json();
        undone += 1;
    }
    assert!(undone <= 3, "{undone}");
}

#[test]
fn a_long_name_among_many_classes_holds_nobody_up() {
    let (shop, server) = open();
    let mut gallery =
        models::Gallery::from_bytes(&std::fs::read(shop.path("gallery.bin")).expect("a gallery"))
            .expect("a gallery");
    for number in 0..2000 {
        let class = models::gallery::Class {
            label: format!("class of the number {number}"),
            ..Default::default()
        };
        gallery.add_class(class, Vec::new());
    }
    server.change("PUT", "/v1/gallery/file", &[], &gallery.to_bytes()).json();
    let begin = std::time::Instant::now();
    let long = server.get(&format!("/v1/classes/{}", "x".repeat(60_000)));
    assert_eq!(long.problem(), "not-found");
    assert!(begin.elapsed() < std::time::Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[test]
fn a_state_without_a_token_is_read_and_not_changed() {
    let (shop, server) = open();
    let picture = shape(2, 1, 30).encode_png().expect("a PNG");
    server.change("POST", "/v1/entries?class=gem", &["Content-Type: image/png"], &picture).json();
    drop(server);
    let state = shop.path("state");
    let server = serve(&shop.path("site"), &["--state", state.to_str().expect("UTF-8")]);
    assert_eq!(server.get("/v1/classes/gem").json()["entries"], 1);
    assert_eq!(server.change("DELETE", "/v1/classes/gem", &[], b"").problem(), "read-only");
    let about: Value = server.get("/v1/gallery").json();
    assert_eq!(about["changes"], false);
}
