package org.hilum.hapi;

import java.util.regex.Pattern;

/**
 * The check digits of LOINC and SNOMED CT: a mistyped code shows without the terminology itself.
 *
 * <p>Sources: LOINC Users' Guide, appendix "Calculating mod 10 check digits"; SNOMED CT technical
 * implementation guide, "Verhoeff check-digit".
 */
final class CheckDigits {

  private static final Pattern LOINC = Pattern.compile("(\\d{1,7})-(\\d)");
  private static final Pattern LOINC_PART = Pattern.compile("(?:LP|LA|LL|LG)\\d{1,7}-\\d");
  private static final Pattern SNOMED = Pattern.compile("[1-9]\\d{5,17}");
  private static final int[][] PRODUCT = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9},
    {1, 2, 3, 4, 0, 6, 7, 8, 9, 5},
    {2, 3, 4, 0, 1, 7, 8, 9, 5, 6},
    {3, 4, 0, 1, 2, 8, 9, 5, 6, 7},
    {4, 0, 1, 2, 3, 9, 5, 6, 7, 8},
    {5, 9, 8, 7, 6, 0, 4, 3, 2, 1},
    {6, 5, 9, 8, 7, 1, 0, 4, 3, 2},
    {7, 6, 5, 9, 8, 2, 1, 0, 4, 3},
    {8, 7, 6, 5, 9, 3, 2, 1, 0, 4},
    {9, 8, 7, 6, 5, 4, 3, 2, 1, 0}
  };
  private static final int[][] PERMUTATION = permutations();

  private CheckDigits() {}

  /** Whether this can be a LOINC code; parts, answers, lists and groups by their form only. */
  static boolean mayBeLoinc(String code) {
    var match = LOINC.matcher(code);
    if (match.matches()) {
      return mod10(match.group(1)) == match.group(2).charAt(0) - '0';
    }
    return LOINC_PART.matcher(code).matches();
  }

  /** Whether this can be a SNOMED CT identifier. */
  static boolean mayBeSnomed(String code) {
    if (!SNOMED.matcher(code).matches()) {
      return false;
    }
    var check = 0;
    for (var i = 0; i < code.length(); i++) {
      var digit = code.charAt(code.length() - 1 - i) - '0';
      check = PRODUCT[check][PERMUTATION[i % 8][digit]];
    }
    return check == 0;
  }

  /** Every second digit from the right is doubled, as in the check digits of cards (Luhn). */
  private static int mod10(String digits) {
    var sum = 0;
    for (var i = 0; i < digits.length(); i++) {
      var digit = digits.charAt(digits.length() - 1 - i) - '0';
      var weighed = i % 2 == 0 ? digit * 2 : digit;
      sum += weighed > 9 ? weighed - 9 : weighed;
    }
    return (10 - sum % 10) % 10;
  }

  private static int[][] permutations() {
    var rows = new int[8][];
    rows[0] = new int[] {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    rows[1] = new int[] {1, 5, 7, 6, 2, 8, 3, 0, 9, 4};
    for (var row = 2; row < rows.length; row++) {
      rows[row] = new int[10];
      for (var digit = 0; digit < 10; digit++) {
        rows[row][digit] = rows[row - 1][rows[1][digit]];
      }
    }
    return rows;
  }
}
