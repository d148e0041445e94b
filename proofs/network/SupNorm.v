(** Contraction of a stored network in a weighted sup norm: a checker that computes with integers, and its soundness. *)
From Coq Require Import Reals Lra Lia List ZArith.
From Deqops Require Import Lists Layers.
Import ListNotations.
Local Open Scope R_scope.
Set Implicit Arguments.

(** The norm max over i of entries_i / unit * |x_i|. The rest is what the checker computes with instead of reciprocals:
    reciprocal_i * entries_i >= whole. *)
Record sup_norm : Type := {
  unit : Z;
  entries : list Z;
  reciprocals : list Z;
  whole : Z
}.

Definition size (N : sup_norm) : nat := length (entries N).
Definition weights_of (N : sup_norm) : list R := map (fun m => rational m (unit N)) (entries N).

(** ** The checker *)
Local Open Scope Z_scope.
Local Open Scope bool_scope.

Fixpoint all2 (test : Z -> Z -> bool) (x y : list Z) : bool :=
  match x, y with
  | a :: x', b :: y' => test a b && all2 test x' y'
  | [], [] => true
  | _, _ => false
  end.

Definition norm_ok (N : sup_norm) : bool :=
  (0 <? unit N) && (0 <? whole N)
  && all2 (fun m u => (0 <? m) && (0 <=? u) && (whole N <=? u * m)) (entries N) (reciprocals N).

(** sum over j of |a_j| u_j *)
Fixpoint weighted_row (u row : list Z) (total : Z) : Z :=
  match u, row with
  | v :: u', a :: row' => weighted_row u' row' (total + v * Z.abs a)
  | _, _ => total
  end.

Fixpoint rows_ok (left right : Z) (u es : list Z) (rows : list (list Z)) (out : list Z) : bool :=
  match es, rows, out with
  | e :: es', row :: rows', m :: out' =>
      (0 <=? e) && (left * m * weighted_row u row 0 <=? right * 2 ^ e) && rows_ok left right u es' rows' out'
  | [], [], [] => true
  | _, _, _ => false
  end.

(** The layer has the constant kn / kd from one norm to another. *)
Definition layer_ok (N : sup_norm) (w : stored) (M : sup_norm) (kn kd : Z) : bool :=
  proper (phi w)
  && rows_ok (slope_numerator (phi w) * unit N * kd) (kn * slope_denominator (phi w) * unit M * whole N)
       (reciprocals N) (exponents w) (mantissas w) (entries M).

(** All layers but the last have the constant 1, the last one has kn / kd. *)
Fixpoint chain_ok (N : sup_norm) (layers : list stored) (hidden : list sup_norm) (last : sup_norm) (kn kd : Z) : bool :=
  match layers, hidden with
  | [w], [] => layer_ok N w last kn kd
  | w :: layers', M :: hidden' => norm_ok M && layer_ok N w M 1 1 && chain_ok M layers' hidden' last kn kd
  | _, _ => false
  end.

Definition sup_norm_ok (n : nat) (N : sup_norm) (layers : list stored) (hidden : list sup_norm) (kn kd : Z) : bool :=
  (size N =? n)%nat && (0 <=? kn) && (kn <? kd) && norm_ok N && chain_ok N layers hidden N kn kd.

Local Open Scope R_scope.

(** ** Soundness *)
Fixpoint weighted_dot (u row : list R) : R :=
  match u, row with v :: u', a :: row' => v * Rabs a + weighted_dot u' row' | _, _ => 0 end.

Lemma sup_nonneg ws x y : Forall (Rlt 0) ws -> 0 <= sup_distance ws x y.
Proof.
  intros pos. revert x y. induction pos as [|w ws p _ IH]; intros [|a x] [|b y]; simpl; try lra.
  apply Rle_trans with (1 := IH x y). apply Rmax_r.
Qed.

Lemma dot_difference ws us : Forall2 (fun w u => 0 < w /\ 1 <= u * w) ws us ->
  forall row x y, length x = length ws -> length y = length ws ->
  Rabs (dot row x - dot row y) <= weighted_dot us row * sup_distance ws x y.
Proof.
  induction 1 as [|w u ws us [p le] rest IH]; intros [|a row] [|b x] [|c y] lx ly; simpl in *; try lia;
    try (unfold Rminus; rewrite Rplus_opp_r, Rabs_R0; lra).
  specialize (IH row x y ltac:(lia) ltac:(lia)).
  set (m := Rmax (w * Rabs (b - c)) (sup_distance ws x y)).
  pose proof (Rmax_l (w * Rabs (b - c)) (sup_distance ws x y)) as l. fold m in l.
  pose proof (Rmax_r (w * Rabs (b - c)) (sup_distance ws x y)) as r. fold m in r.
  replace (a * b + dot row x - (a * c + dot row y)) with (a * (b - c) + (dot row x - dot row y)) by ring.
  apply Rle_trans with (1 := Rabs_triang _ _). rewrite Rabs_mult, Rmult_plus_distr_r.
  pose proof (Rabs_pos a) as a0. pose proof (Rabs_pos (b - c)) as d0.
  assert (w0 : 0 <= weighted_dot us row).
  { clear - rest. revert row. induction rest as [|w u ws us [p le] _ IH]; intros [|a row]; simpl; try lra.
    specialize (IH row). pose proof (Rabs_pos a). assert (0 <= u) by nra. nra. }
  assert (u0 : 0 <= u) by nra.
  assert (near : Rabs (b - c) <= u * m).
  { apply Rle_trans with (u * w * Rabs (b - c)); [nra|]. rewrite Rmult_assoc. apply Rmult_le_compat_l; assumption. }
  apply Rplus_le_compat; [|apply Rle_trans with (1 := IH); apply Rmult_le_compat_l; assumption].
  apply Rle_trans with (Rabs a * (u * m)); [apply Rmult_le_compat_l; assumption | right; ring].
Qed.

Lemma weighted_row_total u : forall row t, weighted_row u row t = (t + weighted_row u row 0)%Z.
Proof.
  induction u as [|v u IH]; intros [|a row] t; cbn [weighted_row]; try ring.
  rewrite (IH row (t + _)%Z), (IH row (0 + _)%Z). ring.
Qed.

Lemma weighted_row_real (D q e : Z) : (0 < q)%Z -> (0 <= e)%Z -> forall u row,
  weighted_dot (map (fun v => IZR v * IZR D / IZR q) u) (map (dyadic e) row)
  = IZR (weighted_row u row 0) * IZR D / IZR q / IZR (2 ^ e).
Proof.
  intros q0 e0. apply IZR_lt in q0. pose proof (dyadic_positive e0) as s0.
  induction u as [|v u IH]; intros [|a row]; cbn [weighted_row weighted_dot map]; try (unfold Rdiv; ring).
  rewrite weighted_row_total, IH, !plus_IZR, mult_IZR, abs_IZR. unfold dyadic, Rdiv.
  rewrite Rabs_mult, (Rabs_pos_eq (/ IZR (2 ^ e))) by (left; now apply Rinv_0_lt_compat). ring.
Qed.

Lemma all2_forall test x y : all2 test x y = true -> Forall2 (fun a b => test a b = true) x y.
Proof.
  revert y. induction x as [|a x IH]; intros [|b y]; simpl; try discriminate; [constructor|].
  intros both. apply Bool.andb_true_iff in both. constructor; [apply both | apply IH, both].
Qed.

Lemma norm_ok_reciprocals N : norm_ok N = true ->
  Forall2 (fun w u => 0 < w /\ 1 <= u * w) (weights_of N)
    (map (fun v => IZR v * IZR (unit N) / IZR (whole N)) (reciprocals N)).
Proof.
  unfold norm_ok. rewrite !Bool.andb_true_iff. intros [[u0 w0] each].
  apply Z.ltb_lt, IZR_lt in u0. apply Z.ltb_lt, IZR_lt in w0. apply all2_forall in each.
  unfold weights_of, rational. induction each as [|m v ms vs ok _ IH]; simpl; constructor; [|exact IH].
  rewrite !Bool.andb_true_iff in ok. destruct ok as [[m0 v0] le].
  apply Z.ltb_lt, IZR_lt in m0. apply Z.leb_le, IZR_le in le. rewrite mult_IZR in le.
  split; [now apply Rdiv_lt_0_compat|].
  replace (IZR v * IZR (unit N) / IZR (whole N) * (IZR m / IZR (unit N))) with (IZR v * IZR m / IZR (whole N))
    by (field; lra).
  apply Rmult_le_reg_r with (IZR (whole N)); [exact w0|].
  unfold Rdiv. rewrite Rmult_assoc, Rinv_l by lra. lra.
Qed.

Lemma norm_ok_positive N : norm_ok N = true -> Forall (Rlt 0) (weights_of N).
Proof. intros ok. apply norm_ok_reciprocals in ok. induction ok as [|w u ws us [p _] _ IH]; constructor; assumption. Qed.

Lemma norm_ok_unit N : norm_ok N = true -> 0 < IZR (unit N) /\ 0 < IZR (whole N).
Proof.
  unfold norm_ok. rewrite !Bool.andb_true_iff. intros [[u0 w0] _].
  split; apply IZR_lt; apply Z.ltb_lt; assumption.
Qed.

Lemma slope_denominator_positive a : 0 < IZR (slope_denominator a).
Proof. destruct a; cbv [slope_denominator]; lra. Qed.

Section Layer.
Variables (N M : sup_norm) (w : stored) (kn kd : Z).
Hypothesis N_ok : norm_ok N = true.
Hypothesis M_ok : norm_ok M = true.
Hypothesis kd0 : 0 < IZR kd.
Hypothesis kn0 : 0 <= IZR kn.
Hypothesis is_proper : proper (phi w) = true.
Let d := sup_distance (weights_of N).
Let us := map (fun v => IZR v * IZR (unit N) / IZR (whole N)) (reciprocals N).

(** What a row may weigh for the layer to have the constant [k]. *)
Definition light (k : R) (row : list R) (m : Z) : Prop :=
  rational m (unit M) * (slope (phi w) * weighted_dot us row) <= k.

Lemma rows_ok_light : forall es rows out,
  rows_ok (slope_numerator (phi w) * unit N * kd) (kn * slope_denominator (phi w) * unit M * whole N)
    (reciprocals N) es rows out = true ->
  length rows = length out /\ length es = length rows /\ Forall2 (light (rational kn kd)) (dyadic_rows es rows) out.
Proof.
  destruct (norm_ok_unit _ N_ok) as [uN wN]. destruct (norm_ok_unit _ M_ok) as [uM wM].
  induction es as [|e es IH]; intros [|row rows] [|m out]; cbn [rows_ok dyadic_rows length]; try discriminate.
  - intros _. repeat split; constructor.
  - rewrite !Bool.andb_true_iff. intros [[e0 le] rest].
    destruct (IH rows out rest) as [l1 [l2 others]]. repeat split; try lia. constructor; [|exact others].
    apply Z.leb_le in e0. pose proof (dyadic_positive e0) as s0. apply Z.leb_le, IZR_le in le.
    rewrite !mult_IZR in le. unfold light, us.
    rewrite weighted_row_real; [|now apply lt_IZR | exact e0].
    set (T := IZR (weighted_row (reciprocals N) row 0)) in *.
    pose proof (slope_denominator_positive (phi w)) as sd0.
    unfold slope, rational.
    apply Rmult_le_reg_r with (IZR kd * IZR (slope_denominator (phi w)) * IZR (unit M) * IZR (whole N) * IZR (2 ^ e)).
    { repeat apply Rmult_lt_0_compat; assumption. }
    replace (IZR kn / IZR kd * (IZR kd * IZR (slope_denominator (phi w)) * IZR (unit M) * IZR (whole N) * IZR (2 ^ e)))
      with (IZR kn * IZR (slope_denominator (phi w)) * IZR (unit M) * IZR (whole N) * IZR (2 ^ e)) by (field; lra).
    apply Rle_trans with (2 := le). right. field. repeat split; lra.
Qed.

Lemma light_contracts k x y : 0 <= k -> length x = size N -> length y = size N ->
  forall A out c, Forall2 (light k) A out -> length c = length A ->
  sup_distance (map (fun m => rational m (unit M)) out) (layer (phi w) A c x) (layer (phi w) A c y) <= k * d x y.
Proof.
  intros k0 lx ly. pose proof (sup_nonneg x y (norm_ok_positive _ N_ok)) as d0. fold d in d0.
  intros A out c rows. revert c. induction rows as [|row m A out one _ IH]; intros [|b c] lc;
    cbn [length layer map sup_distance] in *; try lia; [nra|].
  apply Rmax_lub; [|apply IH; lia].
  pose proof (apply_lipschitz (phi w) (dot row x + b) (dot row y + b) is_proper) as lip.
  replace (dot row x + b - (dot row y + b)) with (dot row x - dot row y) in lip by ring.
  assert (lws : length (weights_of N) = size N) by (unfold weights_of; apply map_length).
  pose proof (dot_difference (norm_ok_reciprocals _ N_ok) row x y) as diff.
  rewrite lws in diff. specialize (diff lx ly). fold us d in diff.
  set (G := Rabs (apply _ _ - apply _ _)) in *. pose proof (slope_nonneg (phi w)) as sl0.
  destruct (Rle_lt_dec (rational m (unit M)) 0) as [neg|pos].
  { assert (0 <= G) by apply Rabs_pos. nra. }
  unfold light in one.
  apply Rle_trans with (rational m (unit M) * (slope (phi w) * weighted_dot us row) * d x y).
  - rewrite !Rmult_assoc. apply Rmult_le_compat_l; [lra|]. apply Rle_trans with (1 := lip).
    apply Rmult_le_compat_l; assumption.
  - apply Rmult_le_compat_r; assumption.
Qed.

Lemma layer_ok_light : layer_ok N w M kn kd = true ->
  length (mantissas w) = size M /\ length (matrix w) = length (mantissas w)
  /\ Forall2 (light (rational kn kd)) (matrix w) (entries M).
Proof.
  unfold layer_ok. rewrite Bool.andb_true_iff. intros [_ ok].
  destruct (rows_ok_light (exponents w) (mantissas w) (entries M) ok) as [l1 [l2 rows]].
  split; [exact l1|]. split; [now apply dyadic_rows_length | exact rows].
Qed.

Lemma constant_nonneg : 0 <= rational kn kd.
Proof. unfold rational, Rdiv. apply Rmult_le_pos; [exact kn0 | left; now apply Rinv_0_lt_compat]. Qed.

Lemma layer_ok_sound c x y : layer_ok N w M kn kd = true -> length c = length (mantissas w) ->
  length x = size N -> length y = size N ->
  length (layer (phi w) (matrix w) c x) = size M
  /\ sup_distance (weights_of M) (layer (phi w) (matrix w) c x) (layer (phi w) (matrix w) c y) <= rational kn kd * d x y.
Proof.
  intros ok lc lx ly. destruct (layer_ok_light ok) as [l1 [l2 rows]].
  split; [rewrite layer_length; lia|].
  apply light_contracts; [exact constant_nonneg | exact lx | exact ly | exact rows | lia].
Qed.
End Layer.

Lemma chain_ok_sound last kn kd : norm_ok last = true -> 0 < IZR kd -> 0 <= IZR kn ->
  forall layers N hidden shifts x y, norm_ok N = true -> chain_ok N layers hidden last kn kd = true -> fits layers shifts ->
  length x = size N -> length y = size N ->
  length (network layers shifts x) = size last
  /\ sup_distance (weights_of last) (network layers shifts x) (network layers shifts y)
     <= rational kn kd * sup_distance (weights_of N) x y.
Proof.
  intros last_ok kd0 kn0. induction layers as [|w layers IH]; intros N hidden shifts x y N_ok ok fit lx ly; [discriminate|].
  inversion fit as [|? c ? cs lc rest]; subst. simpl network.
  assert (one : rational 1 1 = 1) by (unfold rational; field).
  destruct layers as [|w2 layers], hidden as [|M hidden]; try discriminate.
  1: { simpl in ok. inversion rest; subst. simpl network.
    assert (p : proper (phi w) = true) by (unfold layer_ok in ok; apply Bool.andb_true_iff in ok; apply ok).
    exact (@layer_ok_sound N last w kn kd N_ok last_ok kd0 kn0 p c x y ok lc lx ly). }
  all: simpl chain_ok in ok; rewrite !Bool.andb_true_iff in ok; destruct ok as [[M_ok l_ok] ok].
  all: assert (p : proper (phi w) = true) by (unfold layer_ok in l_ok; apply Bool.andb_true_iff in l_ok; apply l_ok).
  all: destruct (@layer_ok_sound N M w 1 1 N_ok M_ok Rlt_0_1 Rle_0_1 p c x y l_ok lc lx ly) as [l1 b].
  all: destruct (@layer_ok_sound N M w 1 1 N_ok M_ok Rlt_0_1 Rle_0_1 p c y x l_ok lc ly lx) as [l2 _].
  all: destruct (IH M hidden cs _ _ M_ok ok rest l1 l2) as [l b2]; split; [exact l|].
  all: apply Rle_trans with (1 := b2); rewrite one, Rmult_1_l in b; apply Rmult_le_compat_l; [|exact b].
  all: unfold rational, Rdiv; apply Rmult_le_pos; [exact kn0 | left; now apply Rinv_0_lt_compat].
Qed.

Theorem sup_norm_converges n N layers hidden kn kd : sup_norm_ok n N layers hidden kn kd = true ->
  forall shifts, fits layers shifts ->
  converges n (sup_distance (weights_of N)) (rational kn kd) (network layers shifts).
Proof.
  unfold sup_norm_ok. rewrite !Bool.andb_true_iff. intros [[[[same kn0] less] N_ok] ok] shifts fit.
  apply Nat.eqb_eq in same. subst n.
  apply Z.leb_le in kn0. apply Z.ltb_lt in less.
  assert (kd0 : 0 < IZR kd) by (apply IZR_lt; lia). apply IZR_le in kn0. apply IZR_lt in less.
  pose proof (norm_ok_positive _ N_ok) as posit. destruct (positive_weights posit) as [ws eq].
  assert (ls : size N = length ws).
  { unfold size. rewrite <- (map_length pos ws), eq. unfold weights_of. symmetry. apply map_length. }
  rewrite ls. apply contraction_converges with (J := WeightedSpace.join_linf).
  - rewrite <- eq. apply sup_measures.
  - split.
    + unfold rational, Rdiv. apply Rmult_le_pos; [exact kn0 | left; now apply Rinv_0_lt_compat].
    + unfold rational, Rdiv. apply Rmult_lt_reg_r with (IZR kd); [exact kd0|].
      rewrite Rmult_assoc, Rinv_l by lra. lra.
  - intros x lx. rewrite <- ls in *.
    exact (proj1 (@chain_ok_sound N kn kd N_ok kd0 kn0 layers N hidden shifts x x N_ok ok fit lx lx)).
  - intros x y lx ly. rewrite <- ls in *.
    exact (proj2 (@chain_ok_sound N kn kd N_ok kd0 kn0 layers N hidden shifts x y N_ok ok fit lx ly)).
Qed.

(** The distance of the norm bounds each entry. *)
Lemma sup_norm_entries n N layers hidden kn kd : sup_norm_ok n N layers hidden kn kd = true ->
  bounds_entries n (sup_distance (weights_of N)).
Proof.
  unfold sup_norm_ok. rewrite !Bool.andb_true_iff. intros [[[[same _] _] N_ok] _]. apply Nat.eqb_eq in same.
  pose proof (sup_bounds_entries (norm_ok_positive N N_ok)) as entries.
  replace n with (length (weights_of N)); [exact entries|]. unfold weights_of. rewrite map_length. exact same.
Qed.

(** ** Matrices that are only known up to a relative error of each entry *)
Definition near_matrix (relative : R) (A B : list (list R)) : Prop :=
  Forall2 (Forall2 (fun a b => Rabs (a - b) <= relative * Rabs b)) A B.

Definition near_ok (n : nat) (N : sup_norm) (w : stored) (kn kd rn rd pn pd : Z) : bool :=
  ((size N =? n)%nat && (0 <=? kn) && (0 <? kd) && (0 <=? rn) && (0 <? rd) && (0 <? pd) && (pn <? pd) && proper (phi w) && norm_ok N
   && layer_ok N w N kn kd && (kn * (rd + rn) * pd <=? pn * kd * rd))%Z%bool.

Lemma weighted_dot_near relative us a b : 0 <= relative -> Forall (Rle 0) us ->
  Forall2 (fun a b => Rabs (a - b) <= relative * Rabs b) a b -> weighted_dot us a <= (1 + relative) * weighted_dot us b.
Proof.
  intros r0 u0 near. revert us u0. induction near as [|x y a b one _ IH]; intros us u0;
    destruct us as [|u us]; simpl; try lra.
  inversion u0; subst. specialize (IH us ltac:(assumption)).
  pose proof (Rabs_triang (x - y) y) as t. replace (x - y + y) with x in t by ring. nra.
Qed.

(** One layer, for every matrix within the relative error of the stored one. *)
Theorem sup_norm_near n N w kn kd rn rd pn pd : near_ok n N w kn kd rn rd pn pd = true ->
  forall A c, near_matrix (rational rn rd) A (matrix w) -> length c = length (mantissas w) ->
  converges n (sup_distance (weights_of N)) (rational pn pd) (layer (phi w) A c).
Proof.
  unfold near_ok. rewrite !Bool.andb_true_iff.
  intros [[[[[[[[[[same kn0] kd0] rn0] rd0] pd0] less] is_proper] N_ok] ok] le] A c near lc.
  apply Nat.eqb_eq in same. subst n. apply Z.leb_le, IZR_le in kn0. apply Z.ltb_lt, IZR_lt in kd0.
  apply Z.leb_le, IZR_le in rn0. apply Z.ltb_lt, IZR_lt in rd0. apply Z.leb_le, IZR_le in le.
  apply Z.ltb_lt, IZR_lt in pd0. rewrite !mult_IZR, plus_IZR in le. apply Z.ltb_lt, IZR_lt in less.
  destruct (@layer_ok_light N N w kn kd N_ok N_ok kd0 ok) as [l1 [l2 rows]].
  assert (r0 : 0 <= rational rn rd).
  { unfold rational, Rdiv. apply Rmult_le_pos; [exact rn0 | left; now apply Rinv_0_lt_compat]. }
  assert (k0 : 0 <= rational kn kd) by (apply constant_nonneg; assumption).
  assert (grown : (1 + rational rn rd) * rational kn kd <= rational pn pd).
  { unfold rational. apply Rmult_le_reg_r with (IZR pd * IZR kd * IZR rd).
    { repeat apply Rmult_lt_0_compat; assumption. }
    replace ((1 + IZR rn / IZR rd) * (IZR kn / IZR kd) * (IZR pd * IZR kd * IZR rd))
      with (IZR kn * (IZR rd + IZR rn) * IZR pd) by (field; lra).
    replace (IZR pn / IZR pd * (IZR pd * IZR kd * IZR rd)) with (IZR pn * IZR kd * IZR rd) by (field; lra).
    exact le. }
  pose proof (norm_ok_positive N N_ok) as posit. pose proof (norm_ok_reciprocals N N_ok) as recs.
  set (us := map (fun v => IZR v * IZR (unit N) / IZR (whole N)) (reciprocals N)) in *.
  assert (u0 : Forall (Rle 0) us).
  { clear - recs. induction recs as [|w0 u ws us [p le] _ IH]; constructor; [nra | exact IH]. }
  assert (lengths : length A = length (mantissas w)).
  { rewrite <- l2. clear - near. induction near; simpl; auto. }
  assert (heavier : Forall2 (light N N w (rational pn pd)) A (entries N)).
  { clear - near rows u0 grown r0 k0 posit. unfold weights_of, near_matrix in *.
    revert A near posit. induction rows as [|b m B out one _ IH]; intros A near posit;
      inversion near as [|a ? A' ? near_a near_rest]; subst; constructor.
    - simpl in posit. inversion posit as [|? ? m0]; subst. unfold light in *. fold us in one |- *.
      pose proof (weighted_dot_near r0 u0 near_a) as dots. pose proof (slope_nonneg (phi w)) as sl0.
      apply Rle_trans with ((1 + rational rn rd) * (rational m (unit N) * (slope (phi w) * weighted_dot us b))).
      + replace ((1 + rational rn rd) * (rational m (unit N) * (slope (phi w) * weighted_dot us b)))
          with (rational m (unit N) * (slope (phi w) * ((1 + rational rn rd) * weighted_dot us b))) by ring.
        apply Rmult_le_compat_l; [lra|]. apply Rmult_le_compat_l; assumption.
      + apply Rle_trans with (2 := grown). apply Rmult_le_compat_l; lra.
    - apply IH; [exact near_rest|]. simpl in posit. now inversion posit. }
  destruct (positive_weights posit) as [ws eq].
  assert (ls : size N = length ws).
  { unfold size. rewrite <- (map_length pos ws), eq. unfold weights_of. symmetry. apply map_length. }
  assert (p0 : 0 <= rational pn pd) by nra.
  rewrite ls. apply contraction_converges with (J := WeightedSpace.join_linf).
  - rewrite <- eq. apply sup_measures.
  - split; [exact p0|]. unfold rational, Rdiv. apply Rmult_lt_reg_r with (IZR pd); [exact pd0|].
    rewrite Rmult_assoc, Rinv_l by lra. lra.
  - intros x lx. rewrite layer_length by lia. lia.
  - intros x y lx ly. rewrite <- ls in *.
    exact (@light_contracts N N w N_ok is_proper (rational pn pd) x y p0 lx ly A (entries N) c heavier ltac:(lia)).
Qed.
