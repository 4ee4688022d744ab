package org.hilum.hapi;

import jakarta.servlet.FilterChain;
import jakarta.servlet.ServletException;
import jakarta.servlet.http.HttpFilter;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.Optional;
import java.util.function.BooleanSupplier;

/**
 * Lets in only callers that show the internal credential, and answers the health check.
 *
 * <p>The listener is on loopback, but so is every other program of the machine: the credential keeps
 * them, and a browser that was led to 127.0.0.1, from reading patients past the gateway.
 */
final class InternalDoor extends HttpFilter {

  static final String HEADER = "X-Hilum-Internal";
  static final String SECRET_VARIABLE = "HILUM_HAPI_SECRET";
  static final String HEALTH_PATH = "/health";
  private static final int SHORTEST_SECRET = 16;
  private static final String REFUSAL =
      "{\"resourceType\":\"OperationOutcome\",\"issue\":[{\"severity\":\"error\",\"code\":\"login\","
          + "\"diagnostics\":\"This server answers Hilum's own processes only\"}]}";

  private final byte[] secretDigest;
  private final transient BooleanSupplier ready;

  InternalDoor(String secret, BooleanSupplier ready) {
    this.secretDigest = digest(secret);
    this.ready = ready;
  }

  /** The credential, when it is there and long enough to be one. */
  static Optional<String> secretFromEnvironment() {
    return Optional.ofNullable(System.getenv(SECRET_VARIABLE))
        .filter(secret -> secret.length() >= SHORTEST_SECRET);
  }

  @Override
  protected void doFilter(HttpServletRequest request, HttpServletResponse response, FilterChain chain)
      throws IOException, ServletException {
    if (HEALTH_PATH.equals(request.getRequestURI())) {
      answerHealth(response);
    } else if (mayEnter(request.getHeader(HEADER))) {
      chain.doFilter(request, response);
    } else {
      answer(response, HttpServletResponse.SC_UNAUTHORIZED, "application/fhir+json", REFUSAL);
    }
  }

  /** 200 once the server can work, 503 before. Says nothing else, as anyone on the machine may ask. */
  private void answerHealth(HttpServletResponse response) throws IOException {
    var up = ready.getAsBoolean();
    var status = up ? HttpServletResponse.SC_OK : HttpServletResponse.SC_SERVICE_UNAVAILABLE;
    answer(response, status, "application/json", up ? "{\"status\":\"ready\"}" : "{\"status\":\"starting\"}");
  }

  private boolean mayEnter(String shown) {
    // Digests have equal length, so that the comparison's time tells neither content nor length.
    return shown != null && MessageDigest.isEqual(digest(shown), secretDigest);
  }

  private static void answer(HttpServletResponse response, int status, String type, String body)
      throws IOException {
    var bytes = body.getBytes(StandardCharsets.UTF_8);
    response.setStatus(status);
    response.setContentType(type + ";charset=UTF-8");
    response.setHeader("Cache-Control", "no-store");
    response.setContentLength(bytes.length);
    response.getOutputStream().write(bytes);
  }

  private static byte[] digest(String text) {
    return Digests.sha256().digest(text.getBytes(StandardCharsets.UTF_8));
  }
}
