package org.hilum.hapi;

import jakarta.servlet.FilterChain;
import jakarta.servlet.ServletException;
import jakarta.servlet.http.HttpFilter;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.time.Clock;
import java.util.Optional;

/**
 * Lets in only requests that bring a grant made for them; the health check alone is open.
 *
 * <p>The listener is on loopback, but so is every other program of the machine: the grant keeps them,
 * and a browser that was led to 127.0.0.1, from reading patients past the gateway.
 */
final class GrantFilter extends HttpFilter {

  static final String HEADER = "X-Hilum-Grant";
  static final String KEY_VARIABLE = "HILUM_HAPI_GRANT_KEY";
  private static final String FHIR = "/fhir";
  private static final String REFUSAL =
      "{\"resourceType\":\"OperationOutcome\",\"issue\":[{\"severity\":\"error\",\"code\":\"login\","
          + "\"diagnostics\":\"This server answers only requests that Hilum has granted\"}]}";

  private final transient GrantVerifier verifier;

  GrantFilter(GrantVerifier verifier) {
    this.verifier = verifier;
  }

  /** The verifier with the public key of the environment; empty when there is none or it is not one. */
  static Optional<GrantVerifier> verifierFromEnvironment() {
    try {
      return Optional.ofNullable(System.getenv(KEY_VARIABLE))
          .map(jwk -> GrantVerifier.of(jwk, Clock.systemUTC()));
    } catch (IllegalArgumentException e) {
      return Optional.empty();
    }
  }

  @Override
  protected void doFilter(HttpServletRequest request, HttpServletResponse response, FilterChain chain)
      throws IOException, ServletException {
    var shown = request.getHeader(HEADER);
    // A health check that shows a grant asks as well: are you the server that I started?
    if (shown == null && Health.PATH.equals(request.getRequestURI())) {
      chain.doFilter(request, response);
      return;
    }
    var grant =
        shown == null
            ? Optional.<Grant>empty()
            : verifier.verify(shown, request.getMethod(), path(request.getRequestURI()));
    if (grant.isPresent()) {
      request.setAttribute(Grant.ATTRIBUTE, grant.get());
      chain.doFilter(request, response);
      return;
    }
    response.setStatus(HttpServletResponse.SC_UNAUTHORIZED);
    response.setContentType("application/fhir+json;charset=UTF-8");
    response.setHeader("Cache-Control", "no-store");
    response.getWriter().write(REFUSAL);
  }

  /** The path below the FHIR base, as it was sent, without slashes at its ends. */
  private static String path(String uri) {
    var below = uri.startsWith(FHIR) ? uri.substring(FHIR.length()) : uri;
    return below.replaceAll("^/+|/+$", "");
  }
}
