//! Tests of the SQS operations that exports use, through the SDK client with default settings.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::Credentials;
use aws_sdk_sqs::error::ProvideErrorMetadata as _;
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName, QueueAttributeName, SendMessageBatchRequestEntry};
use headrace_local::stores::embedded::BoxError;

use super::SqsStandIn;

async fn send(client: &Client, queue: &str, body: &str) -> Result<(), BoxError> {
    client.send_message().queue_url(queue).message_body(body).send().await?;
    Ok(())
}

async fn receive(client: &Client, queue: &str, wait_seconds: i32) -> Result<Vec<Message>, BoxError> {
    let received = client
        .receive_message()
        .queue_url(queue)
        .max_number_of_messages(10)
        .wait_time_seconds(wait_seconds)
        .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
        .send()
        .await?;
    Ok(received.messages.unwrap_or_default())
}

async fn make_visible(client: &Client, queue: &str, message: &Message) -> Result<(), BoxError> {
    client
        .change_message_visibility()
        .queue_url(queue)
        .set_receipt_handle(message.receipt_handle.clone())
        .visibility_timeout(0)
        .send()
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_received_message_stays_hidden_until_its_visibility_timeout_ends() -> Result<(), BoxError> {
    let sqs = SqsStandIn::start();
    let client = sqs.client();
    let (queue, _) = sqs.create_queue_with_dlq("tasks", 1, 5).await?;
    send(&client, &queue, "{\"task\":1}").await?;
    let first = receive(&client, &queue, 0).await?;
    assert_eq!(first[0].body(), Some("{\"task\":1}"));
    assert!(first[0].message_id().is_some());
    assert!(receive(&client, &queue, 0).await?.is_empty());
    let again = receive(&client, &queue, 5).await?;
    assert_eq!(again[0].message_id(), first[0].message_id());
    let attributes = again[0].attributes().unwrap();
    assert_eq!(attributes[&MessageSystemAttributeName::ApproximateReceiveCount], "2");
    let delete = client.delete_message().queue_url(&queue).set_receipt_handle(again[0].receipt_handle.clone());
    delete.send().await?;
    assert!(receive(&client, &queue, 2).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_message_that_is_never_deleted_moves_to_the_dlq() -> Result<(), BoxError> {
    let sqs = SqsStandIn::start();
    let client = sqs.client();
    let (queue, dlq) = sqs.create_queue_with_dlq("tasks", 60, 3).await?;
    send(&client, &queue, "poison").await?;
    for _ in 0..3 {
        let received = receive(&client, &queue, 1).await?;
        assert_eq!(received[0].body(), Some("poison"));
        make_visible(&client, &queue, &received[0]).await?;
    }
    assert!(receive(&client, &queue, 1).await?.is_empty());
    let dead = receive(&client, &dlq, 1).await?;
    assert_eq!(dead[0].body(), Some("poison"));
    Ok(())
}

#[tokio::test]
async fn a_long_poll_ends_when_a_message_arrives() -> Result<(), BoxError> {
    let sqs = SqsStandIn::start();
    let client = sqs.client();
    let (queue, _) = sqs.create_queue_with_dlq("tasks", 60, 3).await?;
    let mut receiving = Box::pin(receive(&client, &queue, 20));
    // An in-process request needs no time to reach the queue, only enough turns of the scheduler.
    for _ in 0..1_000 {
        let is_pending = poll_fn(|context| Poll::Ready(receiving.as_mut().poll(context).is_pending())).await;
        assert!(is_pending, "an empty queue must not respond before the long poll ends");
        tokio::task::yield_now().await;
    }
    Box::pin(send(&client, &queue, "late")).await?;
    let received = tokio::time::timeout(Duration::from_secs(10), receiving).await??;
    assert_eq!(received[0].body(), Some("late"));
    Ok(())
}

#[tokio::test]
async fn a_batch_with_a_delayed_message_is_sent_and_counted() -> Result<(), BoxError> {
    let sqs = SqsStandIn::start();
    let client = sqs.client();
    let (queue, _) = sqs.create_queue_with_dlq("tasks", 60, 3).await?;
    let entries = (0..10).map(|n| {
        let entry = SendMessageBatchRequestEntry::builder().id(n.to_string()).message_body(n.to_string());
        entry.delay_seconds(i32::from(n == 9)).build()
    });
    let entries = entries.collect::<Result<Vec<_>, _>>()?;
    let sent = client.send_message_batch().queue_url(&queue).set_entries(Some(entries)).send().await?;
    assert_eq!((sent.successful().len(), sent.failed().len()), (10, 0));
    let counted = client.get_queue_attributes().queue_url(&queue).attribute_names(QueueAttributeName::All);
    let counted = counted.send().await?.attributes.unwrap_or_default();
    assert_eq!(counted[&QueueAttributeName::ApproximateNumberOfMessages], "9");
    assert_eq!(receive(&client, &queue, 0).await?.len(), 9);
    let delayed = receive(&client, &queue, 5).await?;
    assert_eq!(delayed[0].body(), Some("9"));
    Ok(())
}

#[tokio::test]
async fn a_missing_queue_gives_the_typed_error() -> Result<(), BoxError> {
    let sqs = SqsStandIn::start();
    let (queue, _) = sqs.create_queue_with_dlq("tasks", 60, 3).await?;
    let missing = queue.replace("tasks", "none");
    let error = sqs.client().send_message().queue_url(missing).message_body("x").send().await.unwrap_err();
    assert!(error.into_service_error().is_queue_does_not_exist());
    Ok(())
}

/// Shows the gaps that the `standins` module documents. If an assertion fails, a gap is closed: correct that list.
#[tokio::test]
async fn the_known_gaps_of_this_sqs_are_as_documented() -> Result<(), BoxError> {
    let sqs = SqsStandIn::start();
    let client = sqs.client();
    let (queue, dlq) = sqs.create_queue_with_dlq("tasks", 60, 3).await?;

    let wrong = Credentials::new("unknown", "wrong", None, None, "test");
    let wrong = client.config().to_builder().credentials_provider(wrong).build();
    send(&Client::from_conf(wrong), &queue, "wrong signature").await?;

    send(&client, &queue, &"x".repeat(256 * 1024)).await?;
    let body = "x".repeat(256 * 1024 + 1);
    let error = client.send_message().queue_url(&queue).message_body(body).send().await.unwrap_err();
    assert_eq!(error.code(), Some("InvalidParameterValue"));

    let arn = client.get_queue_attributes().queue_url(&dlq).attribute_names(QueueAttributeName::QueueArn);
    let arn = arn.send().await?.attributes.unwrap_or_default().remove(&QueueAttributeName::QueueArn);
    assert!(client.start_message_move_task().set_source_arn(arn).send().await.is_err());
    Ok(())
}
