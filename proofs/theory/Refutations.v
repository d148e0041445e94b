(** T9 [refute]: what each witness refutes. Two equilibria refute uniqueness and convergence to one; a cycle refutes
    contraction of every power; a derivative whose powers do not tend to 0, as one with an eigenvalue of modulus 1 or
    more, refutes contraction near the point in every norm; on the line, an equilibrium where 1 - G' < 0 is not alone. *)
From Coq Require Import Reals Lra Lia.
From Deqops Require Import Metric BanachSpace LinearMap RealLine.
Local Open Scope R_scope.
Set Implicit Arguments.

Section Witnesses.
Variable M : Metric_Space.
Variables (S : Base M -> Prop) (G : Base M -> Base M).

(** Two disjoint balls inside S, each with an equilibrium. *)
Theorem refute_two_equilibria (c c' : Base M) (r r' : R) :
  (forall y, ball M c r y -> S y) -> (forall y, ball M c' r' y -> S y) ->
  (forall y, ball M c r y -> ball M c' r' y -> False) ->
  (exists s, ball M c r s /\ equilibrium M G s) -> (exists s, ball M c' r' s /\ equilibrium M G s) ->
  ~ (exists s, S s /\ equilibrium M G s /\ forall t, S t -> equilibrium M G t -> t = s)
  /\ ~ (exists s, forall z, S z -> tends M (iterate M G z) s)
  /\ (forall q, q < 1 -> ~ lipschitz M S q G).
Proof.
  intros within within' apart [s [Bs fixed]] [s' [Bs' fixed']].
  assert (distinct : s <> s') by (intros same; rewrite same in Bs; exact (apart s' Bs Bs')).
  assert (far : 0 < dist M s s') by (apply Rnot_le_lt; intros none; exact (distinct (dist_zero M s s' none))).
  assert (still : forall t n, equilibrium M G t -> iterate M G t n = t).
  { intros t n ft. induction n as [|n IH]; simpl; [reflexivity|]. rewrite IH. exact ft. }
  split; [|split].
  - intros [t [_ [_ only]]]. apply distinct.
    rewrite (only s (within s Bs) fixed). symmetry. exact (only s' (within' s' Bs') fixed').
  - intros [t conv].
    destruct (conv s (within s Bs) (dist M s s' / 2)) as [N HN]; [lra|].
    destruct (conv s' (within' s' Bs') (dist M s s' / 2)) as [K HK]; [lra|].
    specialize (HN N (le_n N)). specialize (HK K (le_n K)). rewrite still in HN, HK by assumption.
    pose proof (triangle M s t s') as t'. rewrite (symmetric M t s') in t'. lra.
  - intros q below contracts. pose proof (contracts s s' (within s Bs) (within' s' Bs')) as k.
    rewrite fixed, fixed' in k. nra.
Qed.

Lemma cycle_repeats y n : iterate M G y n = y -> forall k, iterate M G y (k * n) = y.
Proof.
  intros back. induction k as [|k IH]; simpl; [reflexivity|].
  rewrite Nat.add_comm, iterate_shift, back. exact IH.
Qed.

(** A cycle inside S that is no equilibrium: no power of G contracts S, and Picard's iteration does not converge. *)
Theorem refute_cycle (y : Base M) (n : nat) : (1 <= n)%nat -> iterate M G y n = y -> G y <> y ->
  (forall k, S (iterate M G y k)) ->
  (forall m q, (1 <= m)%nat -> q < 1 -> ~ lipschitz M S q (fun z => iterate M G z m))
  /\ ~ (exists s, tends M (iterate M G y) s).
Proof.
  intros some back moves inside.
  assert (far : 0 < dist M y (G y)).
  { apply Rnot_le_lt. intros none. apply moves. symmetry. exact (dist_zero M _ _ none). }
  split.
  - intros m q some_m below contracts.
    set (p := Rmax 0 q). assert (range : 0 <= p < 1).
    { unfold p. split; [apply Rmax_l | apply Rmax_lub_lt; lra]. }
    assert (shrink : forall k, dist M (iterate M G y (k * m)) (iterate M G y (Datatypes.S (k * m)))
              <= p ^ k * dist M y (G y)).
    { induction k as [|k IH]; [simpl; lra|].
      pose proof (contracts _ _ (inside (k * m)%nat) (inside (Datatypes.S (k * m)))) as c.
      cbv beta in c. rewrite <- !iterate_shift in c.
      replace (m + Datatypes.S (k * m))%nat with (Datatypes.S (Datatypes.S k * m)) in c
        by (simpl; lia).
      change (m + k * m)%nat with (Datatypes.S k * m)%nat in c.
      apply Rle_trans with (1 := c). change (p ^ Datatypes.S k) with (p * p ^ k).
      set (gap := dist M (iterate M G y (k * m)) (iterate M G y (Datatypes.S (k * m)))) in *.
      apply Rle_trans with (p * gap); [apply Rmult_le_compat_r; [apply dist_nonneg | apply Rmax_r]|].
      rewrite Rmult_assoc. apply Rmult_le_compat_l; [lra | exact IH]. }
    specialize (shrink n). simpl in shrink.
    rewrite (Nat.mul_comm n m), (cycle_repeats n back m) in shrink.
    assert (p ^ n < 1). { apply pow_lt_1_compat; [exact range | lia]. }
    nra.
  - intros [s conv].
    destruct (conv (dist M y (G y) / 2)) as [N HN]; [lra|].
    pose proof (HN (N * n)%nat ltac:(nia)) as a. pose proof (HN (Datatypes.S (N * n)) ltac:(nia)) as b.
    simpl in b. rewrite (cycle_repeats n back N) in a, b.
    pose proof (triangle M y s (G y)) as t. rewrite (symmetric M s (G y)) in t. lra.
Qed.
End Witnesses.

(** A norm on the points of E that the norm of E bounds and that is bounded below by a multiple of it, as every norm
    on R^n. *)
Definition equivalent_norm (E : banach) (other : point E -> R) : Prop :=
  (forall x y, other (add E x y) <= other x + other y) /\ (forall a x, other (scale E a x) = Rabs a * other x)
  /\ (exists C, 0 < C /\ forall x, other x <= C * norm E x) /\ (exists C, 0 < C /\ forall x, norm E x <= C * other x).

(** J is the derivative of G at y. *)
Definition derivative (E : banach) (G : point E -> point E) (y : point E) (J : point E -> point E) : Prop :=
  linear E E J /\ forall e, 0 < e -> exists delta, 0 < delta /\ forall z, norm E (sub E z y) < delta ->
    norm E (sub E (sub E (G z) (G y)) (J (sub E z y))) <= e * norm E (sub E z y).

Section Derivative.
Variables (E : banach) (G : point E -> point E) (y : point E) (J : point E -> point E) (other : point E -> R).
Hypothesis J_derivative : derivative E G y J.
Hypothesis norms : equivalent_norm E other.

(** Where G contracts near y in some norm, so does its derivative. *)
Lemma derivative_contracts q rho : 0 < rho ->
  (forall z, norm E (sub E z y) < rho -> other (sub E (G z) (G y)) <= q * other (sub E z y)) ->
  forall v, other (J v) <= q * other v.
Proof.
  intros rho0 contracts v. destruct J_derivative as [lin approx].
  destruct norms as [plus [times [[C [C0 above]] _]]].
  apply Rnot_lt_le. intros larger.
  assert (v0 : 0 <= norm E v) by apply norm_nonneg.
  set (e := (other (J v) - q * other v) / (2 * C * (norm E v + 1))).
  assert (e0 : 0 < e) by (unfold e; apply Rdiv_lt_0_compat; [lra | nra]).
  destruct (approx e e0) as [delta [delta0 small]].
  set (t := Rmin rho delta / (2 * (norm E v + 1))).
  assert (least : 0 < Rmin rho delta) by (apply Rmin_glb_lt; assumption).
  assert (t0 : 0 < t) by (unfold t; apply Rdiv_lt_0_compat; lra).
  assert (scaled : t * (norm E v + 1) = Rmin rho delta / 2) by (unfold t; field; lra).
  set (z := add E y (scale E t v)).
  assert (step : sub E z y = scale E t v) by apply add_sub_cancel.
  assert (length : norm E (sub E z y) = t * norm E v) by (rewrite step, norm_scale, Rabs_right by lra; reflexivity).
  assert (short : norm E (sub E z y) < Rmin rho delta) by (rewrite length; nra).
  pose proof (Rmin_l rho delta) as le1. pose proof (Rmin_r rho delta) as le2.
  pose proof (contracts z ltac:(lra)) as k. pose proof (small z ltac:(lra)) as rest.
  rewrite step in k, rest. rewrite (proj2 lin) in rest. rewrite times, (Rabs_right t) in k by lra.
  rewrite norm_scale, (Rabs_right t) in rest by lra.
  set (g := sub E (G z) (G y)) in *.
  assert (split : other (scale E t (J v)) <= other g + other (sub E (scale E t (J v)) g)).
  { rewrite <- (add_sub_back E g (scale E t (J v))) at 1. apply plus. }
  rewrite times, (Rabs_right t) in split by lra.
  pose proof (above (sub E (scale E t (J v)) g)) as a. rewrite norm_sub_sym in a.
  assert (C * norm E (sub E g (scale E t (J v))) <= C * (e * (t * norm E v))) by (apply Rmult_le_compat_l; lra).
  assert (tail : C * (e * (t * norm E v)) <= t * ((other (J v) - q * other v) / 2)).
  { replace (C * (e * (t * norm E v))) with (t * ((other (J v) - q * other v) / 2 * (norm E v / (norm E v + 1))))
      by (unfold e; field; lra).
    apply Rmult_le_compat_l; [lra|].
    assert (norm E v / (norm E v + 1) <= 1).
    { apply Rmult_le_reg_r with (norm E v + 1); [lra|]. unfold Rdiv. rewrite Rmult_assoc, Rinv_l; lra. }
    nra. }
  nra.
Qed.

(** Powers of J that do not tend to 0 at some x: no norm shows a contraction near y. *)
Theorem refute_powers (x : point E) (c : R) : 0 < c ->
  (forall N, exists n, (N <= n)%nat /\ c <= norm E (iterate (metric E) J x n)) ->
  forall q rho, q < 1 -> 0 < rho ->
  ~ (forall z, norm E (sub E z y) < rho -> other (sub E (G z) (G y)) <= q * other (sub E z y)).
Proof.
  intros c0 stay q rho below rho0 contracts.
  pose proof (derivative_contracts rho0 contracts) as k.
  destruct norms as [plus [times [_ [C [C0 under]]]]].
  assert (positive : forall v, 0 <= other v).
  { intros v. pose proof (under v). pose proof (norm_nonneg E v). nra. }
  set (p := Rmax 0 q). assert (range : 0 <= p < 1).
  { unfold p. split; [apply Rmax_l | apply Rmax_lub_lt; lra]. }
  assert (shrink : forall n, other (iterate (metric E) J x n) <= p ^ n * other x).
  { induction n as [|n IH]; simpl; [lra|].
    apply Rle_trans with (1 := k _). rewrite Rmult_assoc.
    apply Rle_trans with (p * other (iterate (metric E) J x n)).
    - apply Rmult_le_compat_r; [apply positive | apply Rmax_r].
    - apply Rmult_le_compat_l; [lra | exact IH]. }
  assert (C1 : 0 <= C * other x) by (apply Rmult_le_pos; [lra | apply positive]).
  destruct (geometric range C1 c0) as [N HN].
  destruct (stay N) as [n [late large]]. specialize (HN n late).
  pose proof (under (iterate (metric E) J x n)) as u. pose proof (shrink n) as s.
  assert (C * other (iterate (metric E) J x n) <= C * (p ^ n * other x)) by (apply Rmult_le_compat_l; lra).
  lra.
Qed.

(** A real eigenvalue of modulus 1 or more. *)
Theorem refute_eigenvalue (v : point E) (mu : R) : v <> zero E -> J v = scale E mu v -> 1 <= Rabs mu ->
  forall q rho, q < 1 -> 0 < rho ->
  ~ (forall z, norm E (sub E z y) < rho -> other (sub E (G z) (G y)) <= q * other (sub E z y)).
Proof.
  intros nonzero eigen large.
  assert (size : 0 < norm E v).
  { apply Rnot_le_lt. intros none. apply nonzero, norm_definite. pose proof (norm_nonneg E v). lra. }
  apply (@refute_powers v (norm E v) size). intros N. exists N. split; [apply le_n|].
  assert (power : forall n, iterate (metric E) J v n = scale E (mu ^ n) v).
  { induction n as [|n IH]; simpl; [symmetry; apply scale_one|].
    rewrite IH, (proj2 (proj1 J_derivative)), eigen, scale_scale. f_equal. ring. }
  rewrite power, norm_scale, <- RPow_abs.
  pose proof (pow_R1_Rle _ N large). nra.
Qed.
(** Stein's witness: a form V, as z^T P z, that J does not lower where it is positive. *)
Theorem refute_stein (V : point E -> R) (C : R) (x : point E) : 0 < C ->
  (forall z, V z <= C * norm E z ^ 2) -> (forall z, 0 < V z -> V z <= V (J z)) -> 0 < V x ->
  forall q rho, q < 1 -> 0 < rho ->
  ~ (forall z, norm E (sub E z y) < rho -> other (sub E (G z) (G y)) <= q * other (sub E z y)).
Proof.
  intros C0 above grows start.
  assert (c0 : 0 < sqrt (V x / C)) by (apply sqrt_lt_R0, Rdiv_lt_0_compat; assumption).
  apply (@refute_powers x (sqrt (V x / C)) c0). intros N. exists N. split; [apply le_n|].
  assert (kept : forall n, V x <= V (iterate (metric E) J x n)).
  { induction n as [|n IH]; simpl; [lra|]. apply Rle_trans with (1 := IH). apply grows. lra. }
  rewrite <- (sqrt_pow2 (norm E _)) by apply norm_nonneg.
  apply sqrt_le_1_alt. apply Rmult_le_reg_r with (1 := C0). unfold Rdiv. rewrite Rmult_assoc, Rinv_l by lra.
  pose proof (kept N). pose proof (above (iterate (metric E) J x N)). lra.
Qed.
End Derivative.

(** The index on the line: G maps [a, b] into its interior, s is an equilibrium with 1 - G'(s) < 0: there is another. *)
Theorem refute_index (G : R -> R) (a b s slope : R) : a < s < b -> continuity G -> a < G a -> G b < b -> G s = s ->
  derivable_pt_lim G s slope -> 1 - slope < 0 ->
  ~ (exists t, a <= t <= b /\ G t = t /\ forall u, a <= u <= b -> G u = u -> u = t).
Proof.
  intros between continuous from_a from_b fixed steep index [t [_ [_ only]]].
  assert (same : s = t) by (apply only; [lra | exact fixed]).
  destruct (steep (slope - 1)) as [delta near]; [lra|].
  pose proof (cond_pos delta) as d0.
  set (h := Rmin (delta / 2) ((b - s) / 2)).
  assert (h0 : 0 < h) by (apply Rmin_glb_lt; lra).
  pose proof (Rmin_l (delta / 2) ((b - s) / 2)) as h1. pose proof (Rmin_r (delta / 2) ((b - s) / 2)) as h2. fold h in h1, h2.
  assert (small : Rabs h < delta) by (rewrite Rabs_right; lra).
  specialize (near h ltac:(lra) small). rewrite fixed in near.
  apply Rabs_def2 in near. destruct near as [_ near].
  assert (above : s + h < G (s + h)).
  { assert (quotient : 1 < (G (s + h) - s) / h) by lra.
    apply Rmult_lt_compat_r with (r := h) in quotient; [|exact h0].
    unfold Rdiv in quotient. rewrite Rmult_assoc, Rinv_l in quotient by lra. lra. }
  destruct (IVT (fun u => u - G u) (s + h) b) as [u [where_u zero_u]].
  - apply continuity_minus; [exact (derivable_continuous _ derivable_id) | exact continuous].
  - lra.
  - lra.
  - lra.
  - assert (u = t) by (apply only; lra). lra.
Qed.

(** The witnesses exist: negation of the line cycles, y^3 has equilibria -1, 0 and 1. *)
Theorem refutation_instance :
  (forall m q, (1 <= m)%nat -> q < 1 -> ~ lipschitz line (fun _ => True) q (fun z => iterate line Ropp z m))
  /\ ~ (exists s : R, s * s * s = s /\ forall t, t * t * t = t -> t = s).
Proof.
  split.
  - apply (@refute_cycle line (fun _ => True) Ropp 1 2); simpl; auto; lra.
  - intros [s [_ only]]. pose proof (only 0 ltac:(ring)). pose proof (only 1 ltac:(ring)). lra.
Qed.
