package org.hilum.hapi;

import java.util.regex.Pattern;

/**
 * A hole that a test asks for, to see that the scope attacks find it.
 *
 * <p>A server starts with one only on a database whose name says so; no site has such a database.
 */
final class SeededFault {

  static final String VARIABLE = "HILUM_HAPI_SEEDED_FAULT";

  /** A rule that is held to a patient covers everybody. */
  static final String COMPARTMENT = "compartment";

  private static final Pattern DATABASE = Pattern.compile("jdbc:postgresql://[^/]+/\\w*seeded_fault(\\?.*)?");

  private SeededFault() {}

  static boolean is(String name) {
    return name.equals(System.getenv(VARIABLE));
  }

  /** Whether a fault is asked for where none may be. */
  static boolean refused() {
    var url = System.getenv("SPRING_DATASOURCE_URL");
    return System.getenv(VARIABLE) != null && (url == null || !DATABASE.matcher(url).matches());
  }
}
