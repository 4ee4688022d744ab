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

/**
 * Lets in only callers that show the internal credential; the health check alone is open.
 *
 * <p>The listener is on loopback, but so is every other program of the machine: the credential keeps
 * them, and a browser that was led to 127.0.0.1, from reading patients past the gateway.
 */
final class InternalDoor extends HttpFilter {

  static final String HEADER = "X-Hilum-Internal";
  static final String SECRET_VARIABLE = "HILUM_HAPI_SECRET";
  private static final int SHORTEST_SECRET = 16;
  private static final String REFUSAL =
      "{\"resourceType\":\"OperationOutcome\",\"issue\":[{\"severity\":\"error\",\"code\":\"login\","
          + "\"diagnostics\":\"This server answers Hilum's own processes only\"}]}";

  private final byte[] secretDigest;

  InternalDoor(String secret) {
    this.secretDigest = digest(secret);
  }

  /** The credential, when it is there and long enough to be one. */
  static Optional<String> secretFromEnvironment() {
    return Optional.ofNullable(System.getenv(SECRET_VARIABLE))
        .filter(secret -> secret.length() >= SHORTEST_SECRET);
  }

  @Override
  protected void doFilter(HttpServletRequest request, HttpServletResponse response, FilterChain chain)
      throws IOException, ServletException {
    var shown = request.getHeader(HEADER);
    // A health check that shows a credential asks as well: are you the server that I started?
    var openCheck = shown == null && Health.PATH.equals(request.getRequestURI());
    if (openCheck || mayEnter(shown)) {
      chain.doFilter(request, response);
      return;
    }
    response.setStatus(HttpServletResponse.SC_UNAUTHORIZED);
    response.setContentType("application/fhir+json;charset=UTF-8");
    response.setHeader("Cache-Control", "no-store");
    response.getWriter().write(REFUSAL);
  }

  private boolean mayEnter(String shown) {
    // Digests have equal length, so that the comparison's time tells neither content nor length.
    return shown != null && MessageDigest.isEqual(digest(shown), secretDigest);
  }

  private static byte[] digest(String text) {
    return Digests.sha256().digest(text.getBytes(StandardCharsets.UTF_8));
  }
}
