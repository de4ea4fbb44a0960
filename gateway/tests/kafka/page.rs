//! The page for developers, in a real browser over a real bank: the plain console, and GraphiQL in its place.

use crate::support::{Bank, PATIENCE, deposit, transfer};
use kontor_compose::console::Console;
use kontor_compose::services::GRAPHIQL_VARIABLE;
use kontor_compose::testing::{BROWSER_ARGUMENTS, ChromiumDriver, Service, eventually, eventually_some};
use serde_json::Value;
use thirtyfour::prelude::*;
use uuid::Uuid;

/// A browser with the page open.
async fn open(driver: &ChromiumDriver, gateway: &Service) -> WebDriver {
    let mut capabilities = DesiredCapabilities::chrome();
    BROWSER_ARGUMENTS.iter().for_each(|argument| capabilities.add_arg(argument).unwrap());
    let browser = WebDriver::new(&driver.url, capabilities).await.unwrap();
    browser.goto(format!("{}/graphiql", gateway.http())).await.unwrap();
    browser
}

/// What the element shows, once it fits.
async fn text_with(browser: &WebDriver, css: &str, contains: &str) -> String {
    let what = format!("{css} shows {contains:?}");
    let look = || async {
        let text = browser.find(By::Css(css)).await.ok()?.text().await.ok()?;
        text.contains(contains).then_some(text)
    };
    eventually_some(PATIENCE, &what, look).await.unwrap()
}

async fn click(browser: &WebDriver, css: &str) {
    browser.query(By::Css(css)).first().await.unwrap().click_when_ready().await.unwrap();
}

/// Chooses an operation of the console and runs it.
async fn run(browser: &WebDriver, operation: &str) {
    click(browser, &format!("#operation option[value={operation}]")).await;
    click(browser, "#run").await;
}

async fn subscriptions_are(gateway: &Service, number: u32) {
    let line = format!("kontor_subscriptions_active {number}");
    let shown = || async { gateway.get("/metrics").await.unwrap().1.lines().any(|shown| shown == line) };
    eventually(PATIENCE, &line, shown).await.unwrap();
}

/// Deposits until the browser that watches has heard of one: a subscription begins a moment after it is asked for.
async fn watched(bank: &Bank, browser: &WebDriver, css: &str, iban: &str) {
    let heard = || async {
        assert_eq!(transfer(&bank.api(), deposit(Uuid::now_v7(), iban, 1)).await["success"], true);
        browser.find(By::Css(css)).await.unwrap().text().await.unwrap().contains(iban)
    };
    eventually(PATIENCE, "the page shows a deposit", heard).await.unwrap();
}

#[tokio::test]
async fn every_operation_of_the_console_works() {
    let bank = Bank::open("console").await;
    let driver = bank.space.chromium().await.unwrap();
    let page = open(&driver, &bank.gateway).await;

    run(&page, "open").await;
    let opened = text_with(&page, "#result", "token").await;
    let opened: Value = serde_json::from_str(&opened).unwrap();
    let account = &opened["data"]["get_account"];
    let (iban, token) = (account["iban"].as_str().unwrap(), account["token"].as_str().unwrap());

    // As the example says: by hand.
    let document = page.find(By::Id("query")).await.unwrap();
    let text = document.value().await.unwrap().unwrap();
    assert!(text.contains("to: \"IBAN\"") && text.contains("token: \"TOKEN\""), "{text}");
    document.clear().await.unwrap();
    document
        .send_keys(text.replace("\"IBAN\"", &format!("\"{iban}\"")).replace("\"TOKEN\"", &format!("\"{token}\"")))
        .await
        .unwrap();
    for operation in ["deposit", "transfer"] {
        run(&page, operation).await;
        text_with(&page, "#result", "\"success\": true").await;
    }
    run(&page, "last").await;
    // 12.50 of the 100.00 went to the company.
    text_with(&page, "#result", "87,50").await;

    run(&page, "watch").await;
    subscriptions_are(&bank.gateway, 1).await;
    watched(&bank, &page, "#result", iban).await;
    click(&page, "#stop").await;
    subscriptions_are(&bank.gateway, 0).await;
    page.quit().await.unwrap();
}

#[tokio::test]
async fn g21_graphiql_comes_from_the_gateway_alone_and_works() {
    let bank = Bank::open("graphiql").await;
    let scripts = tokio::task::spawn_blocking(|| kontor_compose::graphiql::fetch(&Console::terminal()));
    let scripts = scripts.await.unwrap().unwrap();
    let mut gateway = bank.space.gateway("g2", &[]).env(GRAPHIQL_VARIABLE, scripts).start().unwrap();
    gateway.wait_ready(PATIENCE).await.unwrap();
    let driver = bank.space.chromium().await.unwrap();
    let page = open(&driver, &gateway).await;

    // The execute button offers the operations of the example.
    let execute = "button.graphiql-execute-button";
    let result = ".graphiql-response .result-window";
    click(&page, execute).await;
    operation(&page, "open").await;
    let opened = text_with(&page, result, "\"token\"").await;
    assert!(opened.contains("\"reason\": null"), "{opened}");
    let iban = opened.split('"').find(|word| word.starts_with("NL") && word.len() == 18).unwrap();

    click(&page, execute).await;
    operation(&page, "watch").await;
    subscriptions_are(&gateway, 1).await;
    watched(&bank, &page, result, iban).await;
    click(&page, execute).await;
    subscriptions_are(&gateway, 0).await;

    // Its documentation is the schema's, asked for over the same address.
    click(&page, "button[aria-label='Show Documentation Explorer']").await;
    text_with(&page, ".graphiql-doc-explorer", "subscription").await;

    let loaded = "return performance.getEntriesByType('resource').map(entry => new URL(entry.name).origin)";
    let origins: Vec<String> = page.execute(loaded, Vec::new()).await.unwrap().convert().unwrap();
    assert!(origins.len() >= 5 && origins.iter().all(|origin| *origin == gateway.http()), "{origins:?}");
    page.quit().await.unwrap();
}

/// Chooses an item of the execute button's menu.
async fn operation(page: &WebDriver, name: &str) {
    let item = format!("//*[@role='menuitem'][normalize-space()='{name}']");
    page.query(By::XPath(item.as_str())).first().await.unwrap().click_when_ready().await.unwrap();
}
