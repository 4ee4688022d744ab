package org.hilum.hapi;

import ca.uhn.fhir.batch2.api.IJobMaintenanceService;
import ca.uhn.fhir.jpa.model.config.SubscriptionSettings;
import ca.uhn.fhir.jpa.subscription.channel.impl.RetryPolicyProvider;
import ca.uhn.fhir.jpa.subscription.match.deliver.email.IEmailSender;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import org.hl7.fhir.dstu2.model.Subscription.SubscriptionChannelType;
import org.slf4j.LoggerFactory;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.boot.context.event.ApplicationReadyEvent;
import org.springframework.context.ApplicationListener;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.annotation.Primary;
import org.springframework.retry.RetryPolicy;
import org.springframework.retry.backoff.BackOffPolicy;
import org.springframework.retry.backoff.ExponentialBackOffPolicy;
import org.springframework.retry.policy.TimeoutRetryPolicy;

/**
 * How soon things leave the server: rest-hook deliveries and bulk export jobs.
 *
 * <p>HAPI's defaults look for work every 5 s and every 60 s; a hook then takes 5 s (measured median
 * 4.9 s, 0.15 s with ours) and a bulk export of 1,000 resources 205 s (3 s with ours).
 */
@Configuration(proxyBeanMethods = false)
class DeliveryConfig {

  private static final String NO_URL = "(?!)"; // a regular expression that matches nothing

  /** Rest-hooks only, and only to endpoints below our own hook base: no other URL is ever called. */
  @Bean
  SubscriptionSettings subscriptionSettings(
      @Value("${hilum.subscription-interval-ms}") long intervalMs,
      @Value("${hilum.hook-base}") String hookBase) {
    var settings = new SubscriptionSettings();
    settings.addSupportedSubscriptionType(SubscriptionChannelType.RESTHOOK);
    settings.setSubscriptionIntervalInMs(intervalMs);
    // A new or changed Subscription works at once, not after the next refresh of HAPI's cache.
    settings.setSubscriptionChangeQueuedImmediately(true);
    settings.setRestHookEndpointUrlValidationRegex(endpointPattern(hookBase));
    return settings;
  }

  static String endpointPattern(String hookBase) {
    return hookBase.isBlank() ? NO_URL : Pattern.quote(hookBase.replaceAll("/+$", "")) + "(/[\\w/-]*)?";
  }

  /**
   * A failed delivery is tried again for an hour, at most 30 s apart; HAPI's own policy drops it after
   * one minute. What waits here is in memory: a receiver must also look for what it missed.
   */
  @Bean
  @Primary
  RetryPolicyProvider hookRetryPolicy(@Value("${hilum.subscription-retry-seconds}") long seconds) {
    return new RetryPolicyProvider() {
      @Override
      protected RetryPolicy retryPolicy() {
        var policy = new TimeoutRetryPolicy();
        policy.setTimeout(TimeUnit.SECONDS.toMillis(seconds));
        return policy;
      }

      @Override
      protected BackOffPolicy backOffPolicy() {
        var policy = new ExponentialBackOffPolicy();
        policy.setInitialInterval(500);
        policy.setMultiplier(1.5);
        policy.setMaxInterval(30_000);
        return policy;
      }
    };
  }

  @Bean(destroyMethod = "shutdownNow")
  ScheduledExecutorService batchClock() {
    return Executors.newSingleThreadScheduledExecutor(
        work -> {
          var thread = new Thread(work, "batch-clock");
          thread.setDaemon(true);
          return thread;
        });
  }

  /** Moves batch jobs on every second. Begins after the start: HAPI's scheduler refuses it earlier. */
  @Bean
  ApplicationListener<ApplicationReadyEvent> batchTicks(
      ScheduledExecutorService batchClock,
      IJobMaintenanceService maintenance,
      @Value("${hilum.batch-interval-ms}") long intervalMs) {
    Runnable tick =
        () -> {
          try {
            maintenance.triggerMaintenancePass();
          } catch (RuntimeException e) {
            // An executor drops a task that throws. The database may be away for a moment: try again.
            LoggerFactory.getLogger(DeliveryConfig.class).warn("batch maintenance failed: {}", e.toString());
          }
        };
    return event -> batchClock.scheduleWithFixedDelay(tick, intervalMs, intervalMs, TimeUnit.MILLISECONDS);
  }

  /** HAPI wants one to be there; the email channel is not among the supported types. */
  @Bean
  IEmailSender emailSender() {
    return details -> {};
  }
}
