package org.hilum.hapi;

import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.util.function.BooleanSupplier;

/**
 * Answers the health check: 200 once the server can work, 503 before.
 *
 * <p>It reads no data and says nothing else, as any program of the machine may ask.
 */
final class Health extends HttpServlet {

  static final String PATH = "/health";

  private final transient BooleanSupplier ready;

  Health(BooleanSupplier ready) {
    this.ready = ready;
  }

  @Override
  protected void doGet(HttpServletRequest request, HttpServletResponse response) throws IOException {
    var up = ready.getAsBoolean();
    response.setStatus(up ? HttpServletResponse.SC_OK : HttpServletResponse.SC_SERVICE_UNAVAILABLE);
    response.setContentType("application/json");
    response.setHeader("Cache-Control", "no-store");
    response.getWriter().write(up ? "{\"status\":\"ready\"}" : "{\"status\":\"starting\"}");
  }
}
